"""Redaction of log lines: passwords, tokens, the driver's view of a connection, and row data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from ..settings.settings import Settings
    from ..url.database_url import DatabaseURL

HIDDEN = "***"
# Shorter texts are no secrets, and would match parts of ordinary words.
_SHORTEST = 6
_PATTERNS = (
    # The password in a URL, up to the last @ of the word.
    (re.compile(r"(://[^\s:@/]*):[^\s]*@"), rf"\1:{HIDDEN}@"),
    # The password in a connection string of libpq's.
    (re.compile(r"(password\s*=\s*)('(?:\\.|[^'\\])*'|[^\s'\"]+)", re.IGNORECASE), rf"\1{HIDDEN}"),
    # psycopg's description of a connection: "[IDLE] (host=... user=... database=...)".
    (re.compile(r" \((?:host|port|user|database)=[^)]*\)"), ""),
)
# No pattern matches a text that holds none of these, and no "password".
_SIGNS = ("://", " (")


class Redaction:
    """Removes the secrets of `settings`, and all that looks like a password, from texts."""

    def __init__(
        self, settings: Settings, stored_url: Callable[[], DatabaseURL | None] = lambda: None
    ) -> None:
        self._settings = settings
        self._owned = settings.owned
        # The URL read from a secret store, if any; it changes when the password is rotated.
        self._stored_url = stored_url
        self._known: object = self
        self._found: tuple[str, ...] = ()
        self._signs: tuple[str, ...] = ()

    def may_be_needed(self, line: str) -> bool:
        """Return True if a line of JSON may hold a secret. This is cheaper than searching for each."""
        self._learn()
        for sign in self._signs:
            if sign in line:
                return True
        return "password" in line.lower()

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        self._learn()
        for secret in self._found:
            text = text.replace(secret, HIDDEN)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def _learn(self) -> None:
        """Collect the secrets, again when the URL in a secret store or the application's own have changed."""
        known = (self._stored_url(), len(self._owned))
        if known == self._known:
            return
        self._found = tuple(dict.fromkeys(self._secrets()))
        # In the form in which JSON escapes them.
        written = (json.dumps(secret)[1:-1] for secret in self._found)
        self._signs = (*_SIGNS, *dict.fromkeys(written))
        self._known = known

    def _secrets(self) -> Iterator[str]:
        stored = self._stored_url()
        for secret in (*self._settings.secrets(), *(stored.secrets if stored else ())):
            if len(secret) >= _SHORTEST:
                yield secret
                yield quote(secret, safe="")


def details(error: BaseException | None) -> Iterator[str]:
    """Yield the DETAIL of the error and of its causes: PostgreSQL repeats row values in it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if detail := getattr(getattr(error, "diag", None), "message_detail", None):
            yield str(detail)
        error = error.__cause__ or error.__context__
