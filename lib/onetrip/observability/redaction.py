"""What no log line may hold, whoever wrote it: passwords, tokens, a driver's connection, people's data."""

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
# Shorter ones are no secrets, and would be found in every other word.
_SHORTEST = 6
_PATTERNS = (
    # The password in a URL, up to the last @ of the word.
    (re.compile(r"(://[^\s:@/]*):[^\s]*@"), rf"\1:{HIDDEN}@"),
    # The password in a connection string of libpq's.
    (re.compile(r"(password\s*=\s*)('(?:\\.|[^'\\])*'|[^\s'\"]+)", re.IGNORECASE), rf"\1{HIDDEN}"),
    # What psycopg shows of a connection: "[IDLE] (host=... user=... database=...)".
    (re.compile(r" \((?:host|port|user|database)=[^)]*\)"), ""),
)
# Without one of these none of them matches.
_SIGNS = ("://", " (host=", " (port=", " (user=", " (database=")


class Redaction:
    """Takes out of texts what `settings` hold as secrets, and whatever looks like a password."""

    def __init__(
        self, settings: Settings, stored_url: Callable[[], DatabaseURL | None] = lambda: None
    ) -> None:
        self._settings = settings
        # The URL that a secret holds, once it was read: it changes when the password is rotated.
        self._stored_url = stored_url
        self._known: object = self
        self._found: tuple[str, ...] = ()
        self._signs: tuple[str, ...] = ()

    def may_be_needed(self, line: str) -> bool:
        """Whether a line of JSON may hold any of it; to ask costs far less than to look for each."""
        self._learn()
        return any(sign in line for sign in self._signs) or "password" in line.lower()

    def __call__(self, text: str) -> str:
        """The text without them."""
        self._learn()
        for secret in self._found:
            text = text.replace(secret, HIDDEN)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def _learn(self) -> None:
        """Collect the secrets; one URL alone may change while we run: that which is kept in a store."""
        known = self._stored_url()
        if known is self._known:
            return
        self._found = tuple(dict.fromkeys(self._secrets()))
        # As JSON writes them.
        written = (json.dumps(secret)[1:-1] for secret in self._found)
        self._signs = (*_SIGNS, *dict.fromkeys(written))
        self._known = known

    def _secrets(self) -> Iterator[str]:
        settings = self._settings
        urls = (
            settings.database_url,
            settings.database_url_unpooled,
            settings.database_replica_url,
            self._stored_url(),
        )
        given = [secret for url in urls if url for secret in url.secrets]
        given += [
            key.get_secret_value()
            for key in (settings.ops_token, settings.jwt_secret_key, settings.jwt_previous_secret_key)
            if key
        ]
        for secret in given:
            if len(secret) >= _SHORTEST:
                yield secret
                yield quote(secret, safe="")


def details(error: BaseException | None) -> Iterator[str]:
    """What a server told beside its message, of the error and of those that led to it: it repeats rows."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if detail := getattr(getattr(error, "diag", None), "message_detail", None):
            yield str(detail)
        error = error.__cause__ or error.__context__
