"""The variables as they were given: those of the environment, then those of `.env`, as people have them.

Values are pasted from consoles and shells, so what surrounds them is removed: whitespace, one pair of quotes,
`export NAME=` and `psql`. Nothing inside a value is touched, `$` included.
"""

from __future__ import annotations

import io
import os
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import SettingsError

# The prefix that an integration gives its variables, as Vercel's does for a project with several databases.
PREFIX = "DATABASE_PREFIX"
_BLANK = string.whitespace + "\u00a0\u200b\u2060\u3000\ufeff"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Given(NamedTuple):
    """A variable that was given, and where it stands."""

    name: str
    place: str
    value: str


def given(names: Iterable[str], env_file: str | None) -> Iterator[Given]:
    """Each of the variables that was given, the strongest first; those without a value were not."""
    names = list(names)
    for place, variables in _places(env_file, names):
        for name in names:
            if value := cleaned(name, variables.get(name) or variables.get(name.lower()) or ""):
                yield Given(name, place, value)


def cleaned(name: str, value: str) -> str:
    """The value without what was pasted around it."""
    value = value.strip(_BLANK)
    # Most values are nothing but themselves, and a pattern takes as long as all the rest.
    if name in value:
        value = re.sub(rf"^(export\s+)?{re.escape(name)}\s*=\s*", "", value)
    if value.startswith("psql"):
        value = re.sub(r"^psql\s+(?=['\"]?postgres)", "", value)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1].strip(_BLANK)
    return value


def holds_control_characters(value: str) -> bool:
    """Return True if a value holds a line break or another invisible character."""
    return _CONTROL.search(value) is not None


def prefixed(names: Iterable[str], env_file: str | None) -> list[str]:
    """The names of the database's variables, with the integration's prefix ahead if one is set."""
    names = list(names)
    prefix = next((found.value for found in given([PREFIX], env_file)), "").rstrip("_")
    return [f"{prefix}_{name}" for name in names] + names if prefix else names


def likely_prefixes(names: Iterable[str], env_file: str | None) -> list[str]:
    """Prefixes under which the environment holds one of the variables, though none is set."""
    ends = tuple(f"_{name}" for name in names)
    found = {
        variable[: -len(end)]
        for _, variables in _places(env_file, ())
        for variable in variables
        for end in ends
        if variable.endswith(end) and variable not in names
    }
    return sorted(found - {""})


def _places(env_file: str | None, names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "the environment", os.environ
    if env_file and Path(env_file).exists():
        yield ".env", _read(Path(env_file), names)


def _read(file: Path, names: Sequence[str]) -> Mapping[str, str]:
    """The variables of a file; raise `SettingsError` if it is no text, or a line with one of `names` is none.

    Other lines are other programs' business.
    """
    from dotenv.parser import parse_stream  # noqa: PLC0415  (there is no such file where it is deployed)

    bindings = list(parse_stream(io.StringIO(_text(file))))
    wanted = re.compile(rf"\s*(export\s+)?({'|'.join(map(re.escape, names))})\b") if names else None
    broken = [b.original for b in bindings if b.error and wanted and wanted.match(b.original.string)]
    if broken:
        lines = ", ".join(str(original.line) for original in broken)
        raise SettingsError(
            [f"{file.name}: line {lines} cannot be read. Write NAME=value, in equal quotes or none."]
        )
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _text(file: Path) -> str:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise SettingsError(
            [f"{file.name}: cannot be read ({error.strerror}). Make it a readable file."]
        ) from None
    # Not raised within the handler: that error holds the bytes.
    if "\0" in text:
        raise SettingsError([f"{file.name}: is not UTF-8. Save it as UTF-8."])
    return text
