"""The platform of this process, detected by its environment variables."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

PlatformName = Literal["vercel", "lambda", "lambda-managed-instances", "lambda-web-function", "server"]

# Certificate bundles of distributions, for an OpenSSL that was built with other paths.
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class SecretsExtension(NamedTuple):
    """The port and token of AWS's Parameters and Secrets extension, if it is installed."""

    port: int
    token: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}(port={self.port})"


class Platform(NamedTuple):
    """A platform, as its own environment variables describe it."""

    name: PlatformName = "server"
    region: str | None = None
    memory_mb: int | None = None
    environment: Literal["development", "preview", "production"] = "production"
    initialization: str = "on-demand"
    secrets_extension: SecretsExtension | None = None
    # The name of the function on Lambda.
    function: str | None = None

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Platform:
        """Detect Vercel before Lambda, since Vercel's functions run on Lambda.

        A Web Function is known by the address that it is to listen on, which nothing else sets. AWS's
        documentation does not say which of the other variables it has.
        """
        if environ.get("VERCEL"):
            return cls(
                name="vercel",
                region=environ.get("VERCEL_REGION") or None,
                memory_mb=_number(environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")),
                environment=_vercel_environment(environ.get("VERCEL_ENV", "production")),
            )
        if environ.get("AWS_LAMBDA_HTTP_ENDPOINT"):
            return cls(
                name="lambda-web-function",
                function=environ.get("AWS_LAMBDA_FUNCTION_NAME") or "web-function",
                region=environ.get("AWS_REGION") or None,
                memory_mb=_number(environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")),
                environment="production",
                secrets_extension=_secrets_extension(environ),
            )
        if environ.get("AWS_LAMBDA_FUNCTION_NAME"):
            initialization = environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") or "on-demand"
            return cls(
                name="lambda-managed-instances" if initialization == "lambda-managed-instances" else "lambda",
                function=environ["AWS_LAMBDA_FUNCTION_NAME"],
                initialization=initialization,
                region=environ.get("AWS_REGION") or None,
                memory_mb=_number(environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")),
                environment="production",
                secrets_extension=_secrets_extension(environ),
            )
        # Set by `fastapi dev`; any other process without a mark may be public.
        is_development = environ.get("FASTAPI_ENV") == "development"
        return cls(environment="development" if is_development else "production")

    @classmethod
    def current(cls) -> Platform:
        """Return the platform of this process."""
        return cls.detect(os.environ)

    @property
    def is_serverless(self) -> bool:
        """True where the platform starts and freezes instances as it needs them."""
        return self.name != "server"

    @property
    def starts_on_demand(self) -> bool:
        """True if an instance starts for a waiting request, False if it starts in advance."""
        on_demand = {"vercel", "lambda", "lambda-web-function"}
        return self.name in on_demand and self.initialization == "on-demand"

    @property
    def serves_one_request_at_a_time(self) -> bool:
        """True if a route that blocks the event loop delays no other request."""
        return self.name in {"lambda", "lambda-managed-instances"}


def seconds_left(lambda_context: Any = None) -> float | None:
    """Return the seconds until the platform ends this invocation; None if they are unknown.

    The source is the context of the invocation on Lambda, and a module of the runtime on Vercel.
    """
    if lambda_context is not None:
        return float(lambda_context.get_remaining_time_in_millis()) / 1000
    tell = getattr(sys.modules.get("vercel_runtime"), "get_deadline", None)
    deadline = tell() if callable(tell) else None
    return (deadline - datetime.now(UTC)).total_seconds() if isinstance(deadline, datetime) else None


def ca_file() -> str | None:
    """Return the path of the system's certificate bundle (PEM), or None if there is none."""
    candidates = (ssl.get_default_verify_paths().cafile, *_CA_FILES)
    return next((path for path in candidates if path and Path(path).is_file()), None)


def _vercel_environment(name: str) -> Literal["development", "preview", "production"]:
    if name == "development":
        return "development"
    return "preview" if name == "preview" else "production"


def _secrets_extension(environ: Mapping[str, str]) -> SecretsExtension | None:
    token = environ.get("AWS_SESSION_TOKEN")
    port = _number(environ.get("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT")) or 2773
    return SecretsExtension(port, token) if token else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
