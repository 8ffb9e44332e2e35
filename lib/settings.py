"""The environment, read once and checked: the only module that looks at it."""

from __future__ import annotations

import os
import re
import ssl
import sys
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from lib.database_url import DatabaseURL
from lib.errors import SettingsError
from lib.platform import Platform

DOTENV = Path(".env")


def _parse_url(value: object) -> object:
    return DatabaseURL.parse(value) if isinstance(value, str) else value


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


URLField = Annotated[DatabaseURL, BeforeValidator(_parse_url)]


class Settings(BaseSettings):
    """Everything that can be set from outside, typed, bounded and frozen."""

    model_config = SettingsConfigDict(
        env_file=DOTENV,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    environment: Literal["development", "preview", "production"] | None = Field(
        default=None,
        validation_alias="ENVIRONMENT",
        description="development, preview or production. Default: what the platform says.",
    )
    # Before the URLs, whose check depends on it.
    database_tls: Literal["require", "verify-full"] | None = Field(
        default=None,
        validation_alias="DATABASE_TLS",
        description="require, or verify-full to check the certificate. Default: require for remote hosts.",
    )
    database_url: URLField | None = Field(
        default=None,
        validate_default=True,
        validation_alias=_names("DATABASE_URL", "POSTGRES_URL", "NEON_POOLED_DATABASE_URL", "DB_URL"),
        description="PostgreSQL URL, on Neon the pooled one. Secret. This or the next is required.",
    )
    database_url_unpooled: URLField | None = Field(
        default=None,
        validation_alias=_names("DATABASE_URL_UNPOOLED", "POSTGRES_URL_NON_POOLING", "NEON_DATABASE_URL"),
        description="Direct PostgreSQL URL for migrations. Secret. Default: derived for Neon hosts.",
    )
    database_mode: Literal["pooled", "direct"] | None = Field(
        default=None,
        validation_alias="DATABASE_MODE",
        description="pooled or direct: which URL serves requests. Default: pooled on Vercel and Lambda, else direct.",
    )
    database_pool: Literal["tiny", "null", "server"] | None = Field(
        default=None,
        validation_alias="DATABASE_POOL",
        description="tiny (2 connections), null (none kept) or server. Default: tiny on Vercel and Lambda, else server.",
    )
    pool_size: int | None = Field(
        default=None,
        ge=1,
        le=100,
        validation_alias=_names("DATABASE_POOL_SIZE", "DB_POOL_SIZE"),
        description="Connections kept by one process, 1 to 100. Default: the pool's.",
    )
    pool_max_overflow: int | None = Field(
        default=None,
        ge=0,
        le=100,
        validation_alias=_names("DATABASE_MAX_OVERFLOW", "DB_MAX_OVERFLOW"),
        description="Connections beyond the pool's size, 0 to 100. Default: the pool's.",
    )
    pool_timeout_seconds: float | None = Field(
        default=None,
        ge=1,
        le=300,
        allow_inf_nan=False,
        validation_alias=_names("DATABASE_POOL_TIMEOUT", "DB_POOL_TIMEOUT"),
        description="Seconds to wait for a free connection, 1 to 300. Default: the pool's.",
    )
    pool_recycle_seconds: float | None = Field(
        default=None,
        ge=30,
        le=86_400,
        allow_inf_nan=False,
        validation_alias=_names("DATABASE_POOL_RECYCLE", "DB_POOL_RECYCLE"),
        description="Seconds after which a connection is replaced, 30 to 86400. Default: the pool's.",
    )
    database_echo: bool = Field(
        default=False,
        validation_alias=_names("DATABASE_ECHO", "DB_ECHO"),
        description="Log every statement. Refused in production: parameters are data.",
    )
    ops_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        validation_alias="OPS_TOKEN",
        description="Bearer token for operational details in production, 16 characters or more. Secret.",
    )

    @field_validator("database_url", "database_url_unpooled")
    @classmethod
    def _secure(cls, url: DatabaseURL | None, info: ValidationInfo) -> DatabaseURL | None:
        return url and url.secured(info.data.get("database_tls"), _ca_file())

    @field_validator("database_echo")
    @classmethod
    def _no_echo_in_production(cls, echo: bool, info: ValidationInfo) -> bool:
        environment = info.data.get("environment") or Platform.detect(os.environ).environment
        if echo and environment == "production":
            raise ValueError("logs the data of every statement in production. Unset it.")
        return echo

    @model_validator(mode="after")
    def _require_a_url(self) -> Settings:
        if self.database_url is None and self.database_url_unpooled is None:
            raise ValueError("DATABASE_URL: is missing. Set it to postgresql://user:password@host/database.")
        return self

    @cached_property
    def platform(self) -> Platform:
        """Where this process runs."""
        return Platform.detect(os.environ)

    @property
    def is_production(self) -> bool:
        """Whether strangers are to be told as little as possible."""
        return (self.environment or self.platform.environment) == "production"

    @property
    def mode(self) -> Literal["pooled", "direct"]:
        """Which of the two URLs serves requests."""
        return self.database_mode or ("pooled" if self.platform.is_serverless else "direct")

    @property
    def pooled_url(self) -> DatabaseURL:
        """The pooled URL, derived from the direct one for Neon hosts."""
        return (self.database_url or self.direct_url).pooled()

    @property
    def direct_url(self) -> DatabaseURL:
        """The direct URL, derived from the pooled one for Neon hosts."""
        url = self.database_url_unpooled or self.database_url
        assert url is not None  # noqa: S101  (the validator above saw to it)
        return url.direct()

    @property
    def application_url(self) -> DatabaseURL:
        """The URL that serves requests, by the switch."""
        return self.pooled_url if self.mode == "pooled" else self.direct_url


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once; raise `SettingsError` naming every problem at once."""
    return load_settings()


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, `.env` and `overrides` (by variable name, the strongest)."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        # The cause is cut off: pydantic's error holds the input, a password included.
        problems = [_describe(dict(problem)) for problem in error.errors(include_input=False)]
    raise SettingsError(problems) from None


def settings_or_exit() -> Settings:
    """The process's settings; what is wrong with them goes to stderr, a line each, and exit code 2."""
    try:
        return get_settings()
    except SettingsError as error:
        _exit_with(error)


def _exit_with(error: SettingsError) -> NoReturn:
    print(error, file=sys.stderr)  # noqa: T201  (logging is not set up this early)
    raise SystemExit(2)


def given_name(field: str) -> str:
    """The variable's name under which `field` was given, or its first name if it was not."""
    names = _aliases(field)
    return next((name for name in names if name in _given_names()), names[0])


def is_given(field: str) -> bool:
    """Whether `field` was given, under any of its names."""
    return given_name(field) in _given_names()


def dev_port() -> int:
    """The port of `make dev`: `PORT`, or 8000."""
    return int(os.environ.get("PORT") or 8000)


def environment_with(**variables: str) -> dict[str, str]:
    """This process's environment with `variables` added, for a child process."""
    return {**os.environ, **variables}


def _aliases(field: str) -> list[str]:
    alias = Settings.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]


def _given_names() -> set[str]:
    from dotenv import dotenv_values  # noqa: PLC0415  (wanted for a message only)

    return {name.upper() for name, value in {**dotenv_values(DOTENV), **os.environ}.items() if value}


def _describe(problem: dict[str, Any]) -> str:
    """One line: variable, what is wrong, remedy. Pydantic's text never repeats the value."""
    message = re.sub("^(Value error|Assertion failed), ", "", problem["msg"])
    if not problem["loc"]:
        return message
    field = next(name for name in Settings.model_fields if problem["loc"][0] in [name, *_aliases(name)])
    remedy = "" if problem["type"] == "value_error" else f". {Settings.model_fields[field].description}"
    return f"{given_name(field)}: {message[:1].lower()}{message[1:]}{remedy}"


def _ca_file() -> str | None:
    """The system's certificate bundle; psycopg's own OpenSSL looks for it in the wrong place."""
    paths = ssl.get_default_verify_paths()
    candidates = [
        paths.cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ]
    return next((path for path in candidates if path and Path(path).is_file()), None)
