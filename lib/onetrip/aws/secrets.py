"""Reading a secret from AWS: through the extension that runs beside a function, else with boto3."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from ..deadlines import current_deadline
from ..errors import SecretError
from ..platform import SecretsExtension

# For connecting to the store, and again for its answer, where no deadline is nearer.
STEP_SECONDS = 2.0
CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"

# Parts of error codes that are transient.
_PASSING = (
    "Throttl",
    "TooManyRequests",
    "RequestLimit",
    "InternalService",
    "InternalServer",
    "Timeout",
    "EndpointConnection",
    "not ready",
    "timed out",
)
_REMEDIES = {
    "AccessDenied": "Allow the function to read it ({action}), and to decrypt with a key of your own.",
    "NotFound": "Check its name, region and account.",
    "NoCredentials": "Give the process AWS credentials.",
    "NoRegion": "Set AWS_DEFAULT_REGION.",
}


class SecretReference(NamedTuple):
    """Which secret of which service holds the URL, and the variable that said so."""

    variable: str
    service: Literal["secretsmanager", "ssm"]
    name: str

    @property
    def action(self) -> str:
        """Return the action that the role must be allowed."""
        return "secretsmanager:GetSecretValue" if self.service == "secretsmanager" else "ssm:GetParameter"

    @property
    def region(self) -> str | None:
        """The region that an ARN names; None for a plain name."""
        parts = self.name.split(":")
        return parts[3] if parts[0] == "arn" and len(parts) > 3 else None  # noqa: PLR2004  (arn:aws:service:region)


def read(reference: SecretReference, extension: SecretsExtension | None) -> str:
    """The secret's text, which the extension may have kept for some minutes; raise `SecretError`."""
    text = _ask_extension(reference, extension) if extension else None
    return _ask_service(reference, CURRENT) if text is None else text


def read_anew(reference: SecretReference) -> list[str]:
    """The secret's text as the service has it now, and after it the one that a rotation is about to set."""
    texts = [_ask_service(reference, CURRENT)]
    if reference.service == "secretsmanager":
        try:
            texts.append(_ask_service(reference, PENDING))
        except SecretError as error:
            # No rotation is under way.
            if error.passes:
                raise
    return texts


def _ask_extension(reference: SecretReference, extension: SecretsExtension) -> str | None:
    """Return the answer of the extension; None if it is not installed."""
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415  (where it is wanted)

    connection = HTTPConnection("localhost", extension.port, timeout=_step_seconds())
    name = quote(reference.name, safe="")
    path = (
        f"/secretsmanager/get?secretId={name}"
        if reference.service == "secretsmanager"
        else f"/systemsmanager/parameters/get?name={name}&withDecryption=true"
    )
    try:
        connection.request("GET", path, headers={"X-Aws-Parameters-Secrets-Token": extension.token})
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except ConnectionRefusedError:
        return None
    except (OSError, HTTPException) as error:
        raise _failure(reference, f"{type(error).__name__} Timeout") from None
    finally:
        connection.close()
    if response.status != 200:  # noqa: PLR2004  (OK)
        raise _failure(reference, body)
    try:
        return _text_of(reference, json.loads(body))
    except ValueError:
        raise _failure(reference, "an answer that is no JSON") from None


def _ask_service(reference: SecretReference, stage: str) -> str:
    try:
        from boto3.session import Session  # noqa: PLC0415  (large, and there is the extension)
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError:
        raise SecretError(
            f"{reference.variable}: is read with boto3, which is not installed. Install boto3."
        ) from None
    seconds = _step_seconds()
    # One attempt: connecting is repeated by its caller, until the deadline.
    config = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
    try:
        client: Any = Session().client(reference.service, region_name=reference.region, config=config)
        if reference.service == "secretsmanager":
            return _text_of(reference, client.get_secret_value(SecretId=reference.name, VersionStage=stage))
        return _text_of(reference, client.get_parameter(Name=reference.name, WithDecryption=True))
    except ClientError as error:
        raise _failure(reference, error.response["Error"]["Code"]) from None
    except BotoCoreError as error:
        raise _failure(reference, type(error).__name__) from None


def _text_of(reference: SecretReference, answer: Any) -> str:
    """The text in an answer of either service; both speak the same language through either way."""
    text = answer.get("SecretString") or answer.get("Parameter", {}).get("Value")
    if not text:
        raise SecretError(f"{reference.variable}: holds no text. Store the URL as text, not as binary.")
    return str(text)


def _failure(reference: SecretReference, said: str) -> SecretError:
    remedy = next((remedy for word, remedy in _REMEDIES.items() if word in said), "Look at the store.")
    reason = next((word for word in (*_REMEDIES, *_PASSING) if word in said), "unknown reason")
    return SecretError(
        f"{reference.variable}: could not be read ({reason}). {remedy.format(action=reference.action)}",
        passes=any(word in said for word in _PASSING),
    )


def _step_seconds() -> float:
    """Half of what is left, for there are two steps."""
    deadline = current_deadline()
    return max(0.05, min(STEP_SECONDS, deadline.seconds_left / 2)) if deadline else STEP_SECONDS
