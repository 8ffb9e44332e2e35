"""Which platform this process runs on, and what it tells about itself."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

PlatformName = Literal["vercel", "lambda", "lambda-managed-instances", "server"]

# Where distributions keep the certificates they trust, if OpenSSL was built to look elsewhere.
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@dataclass(frozen=True, slots=True)
class SecretsExtension:
    """Where AWS's Parameters and Secrets extension would listen, and the token that it wants."""

    port: int
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Platform:
    """What the platform's own environment variables say."""

    name: PlatformName = "server"
    region: str | None = None
    memory_mb: int | None = None
    environment: Literal["development", "preview", "production"] = "production"
    initialization: str = "on-demand"
    secrets_extension: SecretsExtension | None = None
    # Lambda's name of the function.
    function: str | None = None

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Platform:
        """Recognise Vercel before Lambda, on which Vercel's functions themselves run."""
        if environ.get("VERCEL"):
            return cls(
                name="vercel",
                region=environ.get("VERCEL_REGION") or None,
                memory_mb=_number(environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")),
                environment=_vercel_environment(environ.get("VERCEL_ENV", "production")),
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
        # What `fastapi dev` says of itself; everything else that says nothing may be reached by anyone.
        is_development = environ.get("FASTAPI_ENV") == "development"
        return cls(environment="development" if is_development else "production")

    @classmethod
    def current(cls) -> Platform:
        """The platform of this process, by the marks that the platform itself sets."""
        return cls.detect(os.environ)

    @property
    def is_serverless(self) -> bool:
        """Whether instances multiply and freeze at the platform's will."""
        return self.name != "server"

    @property
    def starts_on_demand(self) -> bool:
        """Whether an instance starts because a request waits for it, rather than ahead of any."""
        return self.name in {"vercel", "lambda"} and self.initialization == "on-demand"

    @property
    def serves_one_request_at_a_time(self) -> bool:
        """Whether the event loop has nothing else to do while a route blocks it."""
        return self.name in {"lambda", "lambda-managed-instances"}


def seconds_left(lambda_context: Any = None) -> float | None:
    """Seconds until the platform ends this invocation; None where it does not tell.

    Lambda tells through the context of each invocation, Vercel through a module of its runtime.
    """
    if lambda_context is not None:
        return float(lambda_context.get_remaining_time_in_millis()) / 1000
    tell = getattr(sys.modules.get("vercel_runtime"), "get_deadline", None)
    deadline = tell() if callable(tell) else None
    return (deadline - datetime.now(UTC)).total_seconds() if isinstance(deadline, datetime) else None


def ca_file() -> str | None:
    """The system's certificate bundle (PEM), or None if there is none."""
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
