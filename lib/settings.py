"""The environment, read once and checked: the only module that looks at it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AliasChoices,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lib.database_url import DatabaseURL
from lib.errors import SettingsError
from lib.platform import Platform, ca_file

# What an error may repeat: a short plain word, never what could be a URL.
_QUOTABLE = re.compile(r"[A-Za-z0-9.+_-]{1,20}")


def _parse_url(value: object) -> DatabaseURL:
    return value if isinstance(value, DatabaseURL) else DatabaseURL.parse(str(value))


# Plain validator and serializer: pydantic would take the value object apart, password and all.
URLField = Annotated[DatabaseURL, PlainValidator(_parse_url), PlainSerializer(str)]


def _setting(*names: str, says: str, default: object = None, **bounds: Any) -> Any:  # noqa: ANN401  (as Field)
    """A field under its variable's names, ours first.

    `says` begins with what may be set and a colon: an error quotes it up to there.
    """
    return Field(default=default, validation_alias=AliasChoices(*names), description=says, **bounds)


class Settings(BaseSettings):
    """Everything that can be set from outside, typed, bounded and frozen."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        # A value is what it says, never JSON.
        enable_decoding=False,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    environment: Literal["development", "preview", "production"] | None = _setting(
        "ENVIRONMENT",
        says="development, preview or production: how much strangers are told. Default: what the platform says.",
    )
    # Before the URLs, whose check depends on it.
    database_tls: Literal["require", "verify-full"] | None = _setting(
        "DATABASE_TLS",
        says="require or verify-full: encrypt, or check certificate and host name too. "
        "Default: require, and what the URL says on this machine.",
    )
    database_url: URLField | None = _setting(
        "DATABASE_URL",
        "POSTGRES_URL",
        "NEON_POOLED_DATABASE_URL",
        "DB_URL",
        says="postgresql://user:password@host/database: on Neon the pooled one. Secret. This or the next is required.",
    )
    database_url_unpooled: URLField | None = _setting(
        "DATABASE_URL_UNPOOLED",
        "POSTGRES_URL_NON_POOLING",
        "NEON_DATABASE_URL",
        says="the direct URL: for migrations. Secret. Default: derived on Neon, else the same.",
        validate_default=True,
    )
    database_mode: Literal["pooled", "direct"] | None = _setting(
        "DATABASE_MODE",
        says="pooled or direct: which URL serves requests. Default: pooled on Vercel and Lambda, else direct.",
    )
    database_pool: Literal["tiny", "null", "server"] | None = _setting(
        "DATABASE_POOL",
        says="tiny, null or server: keep 2 connections, none, or 5 and at most 10. "
        "Default: tiny on Vercel and Lambda, else server.",
    )
    pool_size: int | None = _setting(
        "DATABASE_POOL_SIZE",
        "DB_POOL_SIZE",
        says="a whole number from 1 to 100: connections that one process keeps. Default: the pool's.",
        ge=1,
        le=100,
    )
    pool_max_overflow: int | None = _setting(
        "DATABASE_MAX_OVERFLOW",
        "DB_MAX_OVERFLOW",
        says="a whole number from 0 to 100: connections beyond the pool's size. Default: the pool's.",
        ge=0,
        le=100,
    )
    pool_timeout_seconds: float | None = _setting(
        "DATABASE_POOL_TIMEOUT",
        "DB_POOL_TIMEOUT",
        says="a number from 1 to 300: seconds to wait for a free connection. Default: the pool's.",
        ge=1,
        le=300,
        allow_inf_nan=False,
    )
    pool_recycle_seconds: float | None = _setting(
        "DATABASE_POOL_RECYCLE",
        "DB_POOL_RECYCLE",
        says="a number from 30 to 86400: seconds after which a connection is replaced. Default: the pool's.",
        ge=30,
        le=86_400,
        allow_inf_nan=False,
    )
    database_echo: bool = _setting(
        "DATABASE_ECHO",
        "DB_ECHO",
        default=False,
        says="true or false: log every statement with its data; refused in production. Default: false.",
    )
    database_single_flight: Literal["on", "off"] = _setting(
        "DATABASE_SINGLE_FLIGHT",
        default="on",
        says="on or off: begin a transaction in one flight with its first statement, or as the plain driver does. "
        "Default: on.",
    )
    request_timeout_seconds: float = _setting(
        "REQUEST_TIMEOUT_SECONDS",
        default=25.0,
        says="a number from 1 to 900: seconds in which a request is answered, or less if the platform says so. "
        "Default: 25.",
        ge=1,
        le=900,
        allow_inf_nan=False,
    )
    ops_token: SecretStr | None = _setting(
        "OPS_TOKEN",
        says="16 characters or more: the bearer token that opens operational details in production. Secret.",
        min_length=16,
    )

    _platform: Platform = PrivateAttr(default_factory=lambda: Platform.detect(os.environ))

    @field_validator("database_url", "database_url_unpooled")
    @classmethod
    def _secure(cls, url: DatabaseURL | None, info: ValidationInfo) -> DatabaseURL | None:
        return url and url.secured(info.data.get("database_tls"), ca_file())

    @field_validator("database_url_unpooled")
    @classmethod
    def _require_a_url(cls, url: DatabaseURL | None, info: ValidationInfo) -> DatabaseURL | None:
        # Among the fields, so that it is reported together with what is wrong with others.
        if url is None and info.data.get("database_url", "invalid") is None:
            raise PydanticCustomError(
                "missing_url", "DATABASE_URL: is missing. Set it to postgresql://user:password@host/database."
            )
        return url

    @field_validator("database_echo")
    @classmethod
    def _no_echo_in_production(cls, echo: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (a field's value)
        environment = info.data.get("environment") or Platform.detect(os.environ).environment
        if echo and environment == "production":
            raise ValueError("it logs the data of every statement in production. Unset it.")
        return echo

    @property
    def platform(self) -> Platform:
        """Where this process runs."""
        return self._platform

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


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401  (whatever a field takes)
    """Settings from the environment, `.env` and `overrides` (by variable name, the strongest)."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = [_describe(dict(problem)) for problem in error.errors()]
    # Outside the handler: pydantic's error holds the input, a password included.
    raise SettingsError(problems)


def settings_or_exit() -> Settings:
    """The process's settings; what is wrong with them goes to stderr, a line each, and exit code 2."""
    try:
        return get_settings()
    except SettingsError as error:
        _exit_with(error)


def given_name(field: str) -> str:
    """The variable's name under which `field` was given, or its first name if it was not."""
    names = _names(field)
    given = [name for variables in (os.environ, _dotenv()) for name in names if variables.get(name)]
    return (given or names)[0]


def is_given(field: str) -> bool:
    """Whether `field` was given, under any of its names."""
    return any({**_dotenv(), **os.environ}.get(name) for name in _names(field))


def dev_port() -> int:
    """The port of `make dev`: `PORT`, or 8000."""
    given = os.environ.get("PORT") or "8000"
    if not re.fullmatch("[0-9]{1,5}", given) or not 1 <= int(given) <= 65535:  # noqa: PLR2004  (16 bits)
        _exit_with(
            SettingsError([f"PORT: {_quoted(given)} is not supported. Use a whole number from 1 to 65535."])
        )
    return int(given)


def environment_with(**variables: str) -> dict[str, str]:
    """This process's environment with `variables` added, for a child process."""
    return {**os.environ, **variables}


def _exit_with(error: SettingsError) -> NoReturn:
    print(error, file=sys.stderr)  # noqa: T201  (logging is not set up this early)
    raise SystemExit(2)


def _names(field: str) -> list[str]:
    alias = Settings.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [field]


def _dotenv() -> Mapping[str, str | None]:
    from dotenv import dotenv_values  # noqa: PLC0415  (wanted for a message only)

    file = Settings.model_config.get("env_file")
    return dotenv_values(str(file)) if file else {}


def _describe(problem: dict[str, Any]) -> str:
    """One line: the variable as it was given, what is wrong, the remedy; the value if it is no secret."""
    if problem["type"] == "missing_url":
        return str(problem["msg"])
    name = str(problem["loc"][0])
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}"
    description = next(
        Settings.model_fields[field].description or ""
        for field in Settings.model_fields
        if name in _names(field)
    )
    value = "the value" if "Secret." in description else _quoted(str(problem["input"]))
    return f"{name}: {value} is not supported. Use {description.partition(':')[0]}."


def _quoted(value: str) -> str:
    return f'"{value}"' if _QUOTABLE.fullmatch(value) else "the value"
