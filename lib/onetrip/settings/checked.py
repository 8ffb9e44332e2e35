"""Settings as they were given, checked together and frozen: the package's, and an application's own.

An application declares its own in a class beside the package's:

    class ShopSettings(CheckedSettings):
        shop_key: SecretStr | None = setting("SHOP_KEY", says="16 characters or more: ... Default: none.")
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ..errors import SettingsError
from ..platform import Platform
from .environment import Given, given, holds_control_characters, prefixed

# The variables of the URL, which an integration may have given a prefix.
_PREFIXED = ("database_url", "database_url_unpooled")
# Values that an error may repeat: short plain words, never a possible URL.
_QUOTABLE = re.compile(r"[A-Za-z0-9.+_-]{1,20}")
# An error whose message is the whole line.
WHOLE_LINE = "whole_line"

Kind = TypeVar("Kind", bound="CheckedSettings")


def _parse_environment(value: object) -> object:
    """A name that is not known, such as `staging`, means production's rules."""
    known = str(value).strip().lower()
    return known if known in {"development", "preview"} else "production"


EnvironmentField = Annotated[
    Literal["development", "preview", "production"], BeforeValidator(_parse_environment)
]


def setting(*names: str, says: str, default: object = None, **bounds: Any) -> Any:
    """A field under its variable's names, ours first.

    `says` begins with what may be set and a colon: an error quotes it up to there.
    """
    return Field(default=default, validation_alias=AliasChoices(*names), description=says, **bounds)


class CheckedSettings(BaseSettings):
    """Variables as this process was given them; the environment first, as checks of others depend on it."""

    model_config = SettingsConfigDict(
        env_file=".env",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        # Only the classes that are made are built.
        defer_build=True,
    )

    environment: EnvironmentField | None = setting(
        "ENVIRONMENT",
        says="development, preview or production: unauthenticated clients are told least in production, "
        "whose rules hold for any other name too. Default: what the platform says, else production.",
    )

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

    @classmethod
    def names_of(cls, field: str) -> list[str]:
        """The variables that set `field`, ours first."""
        alias = cls.model_fields[field].validation_alias
        return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [field]

    @classmethod
    def variables_of(cls, field: str) -> list[tuple[str, str]]:
        """Each variable that gives `field` and where it stands; the first of them is the one that wins."""
        return [(found.name, found.place) for found in _given(cls, field)]

    @classmethod
    def given_name(cls, field: str) -> str:
        """The variable's name under which `field` was given, or its first name if it was not."""
        return next((found.name for found in _given(cls, field)), cls.names_of(field)[0])

    @classmethod
    def is_given(cls, field: str) -> bool:
        """Return True if `field` was given, under any of its names."""
        return bool(cls.variables_of(field))

    def secrets(self) -> Iterator[str]:
        """The values that are never shown, but for passwords within URLs."""
        for field in type(self).model_fields:
            value = getattr(self, field)
            if isinstance(value, SecretStr):
                yield value.get_secret_value()


class _GivenVariables(PydanticBaseSettingsSource):
    """The environment's variables and those of `.env`, each field's under its first name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value, the field's first name, and that it is no JSON."""
        del field
        kind = self._kind
        found = next(_given(kind, field_name), None)
        return (found and found.value), kind.names_of(field_name)[0], False

    def __call__(self) -> dict[str, Any]:
        """Every value that was given."""
        found = (self.get_field_value(field, name) for name, field in self._kind.model_fields.items())
        return {name: value for value, name, _ in found if value}

    @property
    def _kind(self) -> type[CheckedSettings]:
        assert issubclass(self.settings_cls, CheckedSettings)  # noqa: S101  (for the type checker)
        return self.settings_cls


def checked(kind: type[Kind], variables: Mapping[str, Any]) -> Kind:
    """Settings of this kind, `variables` the strongest; raise `SettingsError` that names every problem."""
    try:
        # The file is read by `environment`, which says what is wrong with it.
        return kind(_env_file=None, **variables)
    except ValidationError as error:
        problems = [_describe(kind, dict(problem)) for problem in error.errors()]
    # Outside the handler: pydantic's error holds the input, a password included.
    raise SettingsError(problems)


def rules(environment: str | None) -> str:
    """The environment whose rules hold, where this one was given."""
    return environment or Platform.detect(os.environ).environment


def env_file() -> str | None:
    """The file that is read beside the environment."""
    file = CheckedSettings.model_config.get("env_file")
    return str(file) if file else None


def quoted(value: str) -> str:
    """The value as an error may show it."""
    return f'"{value}"' if _QUOTABLE.fullmatch(value) else "the value"


def _given(kind: type[CheckedSettings], field: str) -> Iterator[Given]:
    names, file = kind.names_of(field), env_file()
    return given(prefixed(names, file) if field in _PREFIXED else names, file)


def _describe(kind: type[CheckedSettings], problem: dict[str, Any]) -> str:
    """One line: the variable as it was given, what is wrong, the remedy; the value if it is no secret."""
    if problem["type"] == WHOLE_LINE:
        return str(problem["msg"])
    field = next(field for field in kind.model_fields if problem["loc"][0] in kind.names_of(field))
    if problem["type"] == "value_error":
        return f"{kind.given_name(field)}: {problem['ctx']['error']}"
    description = kind.model_fields[field].description or ""
    value = "the value" if "Secret." in description else quoted(str(problem["input"]))
    return f"{kind.given_name(field)}: {value} is not supported. Use {description.partition(': ')[0]}."
