"""The settings of a process: the variables that were given, checked together."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal, NoReturn

from pydantic import PrivateAttr, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ..errors import SettingsError
from ..platform import Platform, ca_file
from ..process import process
from ..url.database_url import DatabaseURL
from .checked import WHOLE_LINE, CheckedSettings, Kind, checked, env_file, quoted, rules
from .environment import PREFIX, likely_prefixes
from .strength import NEW_KEY, weakness
from .variables import Variables

# The sources of the URL; a secret, one of the last two, excludes the others.
_URL_SOURCES = ("database_url", "database_url_unpooled", "db_secret_arn", "database_url_parameter")


class Settings(Variables):
    """The settings of the package, and through `own` those of the application."""

    model_config = SettingsConfigDict(defer_build=False)

    _platform: Platform = PrivateAttr(default_factory=lambda: Platform.detect(os.environ))

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
            raise PydanticCustomError(WHOLE_LINE, _missing())
        if len(sources) > 1 and sources[-1] in _URL_SOURCES[2:]:
            first, last = cls.given_name(sources[0]), cls.given_name(sources[-1])
            raise PydanticCustomError(WHOLE_LINE, f"{last}: is set beside {first}. Unset one of the two.")
        return parameter

    @field_validator("database_echo")
    @classmethod
    def _no_echo_in_production(cls, echo: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (a field's value)
        environment = rules(info.data.get("environment"))
        if echo and environment == "production":
            raise ValueError("it logs the data of every statement in production. Unset it.")
        return echo

    @field_validator("ops_token")
    @classmethod
    def _no_weak_token(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        environment = rules(info.data.get("environment"))
        value = token.get_secret_value() if token else ""
        if not (value.isascii() and value.isprintable()):
            # A header carries it, in which other characters arrive in several spellings.
            raise ValueError(f"has characters beyond ASCII. {NEW_KEY}")
        if token and environment != "development" and (wrong := weakness(value)):
            raise ValueError(f"{wrong} {NEW_KEY}")
        return token

    def own(self, kind: type[Kind]) -> Kind:
        """The application's own settings of this kind, read once, with what these were given by hand."""
        if kind not in self.owned:
            self.owned[kind] = checked(kind, self.overrides)
        found = self.owned[kind]
        assert isinstance(found, kind)  # noqa: S101  (for the type checker)
        return found

    @cached_property
    def owned(self) -> dict[type[CheckedSettings], CheckedSettings]:
        """The application's own settings that were read so far."""
        return {}

    @cached_property
    def overrides(self) -> dict[str, Any]:
        """The variables that were given by hand."""
        return {}

    def secrets(self) -> Iterator[str]:
        """The values that are never shown, the application's own and passwords within URLs included."""
        for field in type(self).model_fields:
            value = getattr(self, field)
            if isinstance(value, DatabaseURL):
                yield from value.secrets
        yield from super().secrets()
        for own in self.owned.values():
            yield from own.secrets()

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


def settings_with(own: Sequence[type[CheckedSettings]]) -> Settings:
    """The process's settings and the application's `own`; an error names the problems of all."""
    problems: list[str] = []
    settings = None
    try:
        settings = get_settings()
    except SettingsError as error:
        problems += error.problems
    for kind in own:
        try:
            settings.own(kind) if settings else checked(kind, {})
        except SettingsError as error:
            problems += error.problems
    if problems or settings is None:
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def settings_or_exit(own: Sequence[type[CheckedSettings]] = ()) -> Settings:
    """The same; what is wrong with them goes to stderr, a line each, and the exit code is 2."""
    try:
        return settings_with(own)
    except SettingsError as error:
        _exit_with(error)


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
    settings = checked(Settings, overrides)
    settings.overrides.update(overrides)
    return settings


def settings_for(url: str) -> Settings:
    """Settings on `url`, with the default of everything else; reads neither the environment nor a file."""
    return checked(_given_settings(), {"DATABASE_URL": url})


def dev_port() -> int:
    """The port of `make dev`: `PORT`, or 8000."""
    given = os.environ.get("PORT") or "8000"
    if not re.fullmatch("[0-9]{1,5}", given) or not 1 <= int(given) <= 65535:  # noqa: PLR2004  (16 bits)
        _exit_with(
            SettingsError([f"PORT: {quoted(given)} is not supported. Use a whole number from 1 to 65535."])
        )
    return int(given)


def environment_with(**variables: str) -> dict[str, str]:
    """The environment of a child process: this one's with `variables` added."""
    return {**os.environ, **variables}


def _exit_with(error: SettingsError) -> NoReturn:
    print(error, file=sys.stderr)  # noqa: T201  (logging is not set up this early)
    raise SystemExit(2)


def _missing() -> str:
    """The line for a URL that was not given, with the prefix under which one stands."""
    line = "DATABASE_URL: is missing. Set it to postgresql://user:password@host/database."
    prefixes = likely_prefixes(Settings.names_of("database_url"), env_file())
    if not prefixes:
        return line
    return f"{line.partition('.')[0]}. Set it, or {PREFIX} to the prefix of another: {', '.join(prefixes)}."
