"""Findings: the result of a check in one line, and its remedy in another."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "wrong", "skipped"]

_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; each text is a single line without secrets."""

    status: Status
    says: str
    remedy: str | None = None


def ok(says: str) -> Finding:
    """Return a finding without a problem."""
    return Finding("ok", plain(says))


def warning(says: str, remedy: str) -> Finding:
    """Return a finding about a thing that works but will cause trouble."""
    return Finding("warning", plain(says), plain(remedy))


def wrong(says: str, remedy: str) -> Finding:
    """Return a finding about a thing that does not work."""
    return Finding("wrong", plain(says), plain(remedy))


def skipped(cause: str) -> Finding:
    """Return a finding for a check that did not run because `cause` failed before."""
    return Finding("skipped", f"not checked: {cause} comes first")


def plain(text: str) -> str:
    """Return `text` in one line without control characters."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() or c.isspace() else "?" for c in text)).strip()


def quoted(text: object, secrets: Iterable[str]) -> str:
    """Return a foreign text in one line, without `secrets`, shortened."""
    said = str(text)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        said = said.replace(secret, "***")
    said = plain(said)
    return said if len(said) <= _LONGEST_TEXT else f"{said[:_LONGEST_TEXT]}…"
