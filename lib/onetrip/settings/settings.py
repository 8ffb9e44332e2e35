"""The settings of a process: the variables that were given, checked together."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, Literal, NoReturn

from pydantic import PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ..errors import SettingsError
from ..platform import Platform, ca_file
from ..process import process
from ..url.database_url import DatabaseURL
from .environment import PREFIX, Given, given, holds_control_characters, likely_prefixes, prefixed
from .signing_key import MIN_TOKEN_BITS, MIN_TOKEN_BYTES, NEW_KEY, weakness
from .variables import Variables

# Values that an error may repeat: short plain words, never a possible URL.
_QUOTABLE = re.compile(r"[A-Za-z0-9.+_-]{1,20}")
# The sources of the URL; a secret, one of the last two, excludes the others.
_URL_SOURCES = ("database_url", "database_url_unpooled", "db_secret_arn", "database_url_parameter")


class Settings(Variables, BaseSettings):
    """The variables as this process was given them, checked together and frozen."""

    model_config = SettingsConfigDict(
        env_file=".env", frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=False
    )

    _platform: Platform = PrivateAttr(default_factory=lambda: Platform.detect(os.environ))

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The caller's values, then what was given."""
        return init_settings, _GivenVariables(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_control_characters(cls, value: Any) -> Any:
        if isinstance(value, str) and holds_control_characters(value):
            raise ValueError("holds a line break or another control character. Write it on one line.")
        return value

    @field_validator(
        "database_url", "database_url_unpooled", "migration_database_url", "database_replica_url"
    )
    @classmethod
    def _secure(cls, url: DatabaseURL | None, info: ValidationInfo) -> DatabaseURL | None:
        return url and url.secured(info.data.get("database_tls"), ca_file())

    @field_validator("database_url_parameter")
    @classmethod
    def _require_one_source(cls, parameter: str | None, info: ValidationInfo) -> str | None:
        # Among the fields, so that it is reported together with what is wrong with others.
        values = {**info.data, "database_url_parameter": parameter}
        if not values.keys() >= set(_URL_SOURCES):
            return parameter
        sources = [name for name in _URL_SOURCES if values[name]]
        if not sources:
            raise PydanticCustomError("url_source", _missing())
        if len(sources) > 1 and sources[-1] in _URL_SOURCES[2:]:
            first, last = given_name(sources[0]), given_name(sources[-1])
            raise PydanticCustomError("url_source", f"{last}: is set beside {first}. Unset one of the two.")
        return parameter

    @field_validator("database_echo")
    @classmethod
    def _no_echo_in_production(cls, echo: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (a field's value)
        environment = info.data.get("environment") or Platform.detect(os.environ).environment
        if echo and environment == "production":
            raise ValueError("it logs the data of every statement in production. Unset it.")
        return echo

    @field_validator("jwt_secret_key", "jwt_previous_secret_key")
    @classmethod
    def _no_weak_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        environment = info.data.get("environment") or Platform.detect(os.environ).environment
        if key and environment != "development" and (wrong := weakness(key.get_secret_value())):
            raise ValueError(f"{wrong} {NEW_KEY}")
        return key

    @field_validator("ops_token")
    @classmethod
    def _no_weak_token(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        environment = info.data.get("environment") or Platform.detect(os.environ).environment
        value = token.get_secret_value() if token else ""
        if not (value.isascii() and value.isprintable()):
            # A header carries it, in which other characters arrive in several spellings.
            raise ValueError(f"has characters beyond ASCII. {NEW_KEY}")
        if token and environment != "development":
            wrong = weakness(value, min_bytes=MIN_TOKEN_BYTES, min_bits=MIN_TOKEN_BITS)
            if wrong:
                raise ValueError(f"{wrong} {NEW_KEY}")
        return token

    @cached_property
    def sources(self) -> dict[str, Any]:
        """A slot for `connection.source`, which keeps one source of the URL for these settings."""
        return {}

    @property
    def platform(self) -> Platform:
        """The platform of this process."""
        return self._platform

    @property
    def environment_name(self) -> Literal["development", "preview", "production"]:
        """The environment whose rules hold: production's unless something says otherwise."""
        return self.environment or self.platform.environment

    @property
    def is_production(self) -> bool:
        """True if operational details are hidden from unauthenticated clients."""
        return self.environment_name == "production"

    @property
    def is_development(self) -> bool:
        """True on a developer's own machine."""
        return self.environment_name == "development"

    @property
    def mode(self) -> Literal["pooled", "direct"]:
        """Which of the two URLs serves requests."""
        return self.database_mode or ("pooled" if self.platform.is_serverless else "direct")

    @property
    def pooled_url(self) -> DatabaseURL:
        """The pooled URL, derived from the direct one for Neon hosts."""
        return (self.database_url or self._given_url).pooled()

    @property
    def direct_url(self) -> DatabaseURL:
        """The direct URL, derived from the pooled one for Neon hosts."""
        return (self.database_url_unpooled or self._given_url).direct()

    @property
    def application_url(self) -> DatabaseURL:
        """The URL that serves requests, by the switch."""
        return self.pooled_url if self.mode == "pooled" else self.direct_url

    def switched(self, url: DatabaseURL) -> DatabaseURL:
        """The same URL, pooled or direct by the switch."""
        return url.pooled() if self.mode == "pooled" else url.direct()

    @property
    def _given_url(self) -> DatabaseURL:
        """The URL that the environment holds; one in a secret is read by `connection.source`, never here."""
        url = self.database_url or self.database_url_unpooled
        if url is None:
            raise SettingsError([f"{self.secret and self.secret.variable}: the URL is kept in this secret."])
        return url


def get_settings() -> Settings:
    """The process's settings, read once; raise `SettingsError` naming every problem at once."""
    return process.settings.get(load_settings)


class _GivenVariables(PydanticBaseSettingsSource):
    """The environment's variables and those of `.env`, each field's under its first name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value, the field's first name, and that it is no JSON."""
        del field
        found = next(_given(field_name), None)
        return (found and found.value), Settings.names_of(field_name)[0], False

    def __call__(self) -> dict[str, Any]:
        """Every value that was given."""
        found = (self.get_field_value(field, name) for name, field in Settings.model_fields.items())
        return {name: value for value, name, _ in found if value}


@lru_cache(maxsize=1)
def _given_settings() -> type[Settings]:
    """Settings that nothing but the caller gives; a class of its own, which costs as much as the other."""

    class GivenSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],  # noqa: ARG003  (pydantic's)
            init_settings: PydanticBaseSettingsSource,
            *_: Any,
            **__: Any,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    return GivenSettings


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, `.env` and `overrides` (by variable name, the strongest)."""
    return _checked(Settings, overrides)


def _checked(kind: type[Settings], variables: Mapping[str, Any]) -> Settings:
    try:
        # The file is read by `environment`, which says what is wrong with it.
        return kind(_env_file=None, **variables)
    except ValidationError as error:
        problems = [_describe(dict(problem)) for problem in error.errors()]
    # Outside the handler: pydantic's error holds the input, a password included.
    raise SettingsError(problems)


def settings_for(url: str) -> Settings:
    """Settings on `url`, with the default of everything else; reads neither the environment nor a file."""
    return _checked(_given_settings(), {"DATABASE_URL": url})


def settings_or_exit() -> Settings:
    """The process's settings; what is wrong with them goes to stderr, a line each, and exit code 2."""
    try:
        return get_settings()
    except SettingsError as error:
        _exit_with(error)


def variables_of(field: str) -> list[tuple[str, str]]:
    """Each variable that gives `field` and where it stands; the first of them is the one that wins."""
    return [(found.name, found.place) for found in _given(field)]


def given_name(field: str) -> str:
    """The variable's name under which `field` was given, or its first name if it was not."""
    return next((found.name for found in _given(field)), Settings.names_of(field)[0])


def is_given(field: str) -> bool:
    """Return True if `field` was given, under any of its names."""
    return bool(variables_of(field))


def dev_port() -> int:
    """The port of `make dev`: `PORT`, or 8000."""
    given = os.environ.get("PORT") or "8000"
    if not re.fullmatch("[0-9]{1,5}", given) or not 1 <= int(given) <= 65535:  # noqa: PLR2004  (16 bits)
        _exit_with(
            SettingsError([f"PORT: {_quoted(given)} is not supported. Use a whole number from 1 to 65535."])
        )
    return int(given)


def environment_with(**variables: str) -> dict[str, str]:
    """The environment of a child process: this one's with `variables` added."""
    return {**os.environ, **variables}


def _exit_with(error: SettingsError) -> NoReturn:
    print(error, file=sys.stderr)  # noqa: T201  (logging is not set up this early)
    raise SystemExit(2)


def _given(field: str) -> Iterator[Given]:
    names, file = Settings.names_of(field), _env_file()
    return given(prefixed(names, file) if field in _URL_SOURCES[:2] else names, file)


def _env_file() -> str | None:
    file = Settings.model_config.get("env_file")
    return str(file) if file else None


def _missing() -> str:
    """The line for a URL that was not given, with the prefix under which one stands."""
    line = "DATABASE_URL: is missing. Set it to postgresql://user:password@host/database."
    prefixes = likely_prefixes(Settings.names_of("database_url"), _env_file())
    if not prefixes:
        return line
    return f"{line.partition('.')[0]}. Set it, or {PREFIX} to the prefix of another: {', '.join(prefixes)}."


def _describe(problem: dict[str, Any]) -> str:
    """One line: the variable as it was given, what is wrong, the remedy; the value if it is no secret."""
    if problem["type"] == "url_source":
        return str(problem["msg"])
    field = next(field for field in Settings.model_fields if problem["loc"][0] in Settings.names_of(field))
    if problem["type"] == "value_error":
        return f"{given_name(field)}: {problem['ctx']['error']}"
    description = Settings.model_fields[field].description or ""
    value = "the value" if "Secret." in description else _quoted(str(problem["input"]))
    return f"{given_name(field)}: {value} is not supported. Use {description.partition(': ')[0]}."


def _quoted(value: str) -> str:
    return f'"{value}"' if _QUOTABLE.fullmatch(value) else "the value"
