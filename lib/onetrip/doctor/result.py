"""What a check found: a line that says it, and one that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "wrong", "skipped"]

_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome, each text a single line without secrets."""

    status: Status
    says: str
    remedy: str | None = None


def ok(says: str) -> Finding:
    """All is as it should be."""
    return Finding("ok", plain(says))


def warning(says: str, remedy: str) -> Finding:
    """It works, and will cost somebody later."""
    return Finding("warning", plain(says), plain(remedy))


def wrong(says: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding("wrong", plain(says), plain(remedy))


def skipped(cause: str) -> Finding:
    """Not checked, since the check `cause` failed before it."""
    return Finding("skipped", f"not checked: {cause} comes first")


def plain(text: str) -> str:
    """`text` in one line that cannot steer a terminal."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() or c.isspace() else "?" for c in text)).strip()


def quoted(text: object, secrets: Iterable[str]) -> str:
    """What somebody else said, without `secrets`, cut where nobody reads on."""
    said = str(text)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        said = said.replace(secret, "***")
    said = plain(said)
    return said if len(said) <= _LONGEST_TEXT else f"{said[:_LONGEST_TEXT]}…"
