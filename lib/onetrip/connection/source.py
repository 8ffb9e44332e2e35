"""The source of the URL to connect to: the settings, or a secret that may be rotated."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..aws import secrets
from ..aws.secrets import SecretReference
from ..deadlines import current_deadline
from ..errors import DeadlineExceededError, SecretError
from ..platform import SecretsExtension, ca_file
from ..process import process
from ..url.database_url import DatabaseURL, DatabaseURLError

if TYPE_CHECKING:
    # Takes Pydantic, which the early connection does without.
    from ..settings.settings import Settings

# Seconds before a secret that held the rejected password is read again.
REST_SECONDS = 10.0

logger = logging.getLogger(__name__)


class URLSource(Protocol):
    """Gives the URL to connect to."""

    @property
    def known(self) -> DatabaseURL | None:
        """The URL if giving it takes no waiting."""

    def current(self) -> DatabaseURL:
        """The URL, read from where it is kept if need be; raise `SecretError`."""

    def refreshed(self, refused: DatabaseURL) -> DatabaseURL | None:
        """Another URL than the one whose login the server refused; None if there is none."""


class FixedURL(NamedTuple):
    """The URL that the settings give."""

    known: DatabaseURL

    def current(self) -> DatabaseURL:
        return self.known

    def refreshed(self, refused: DatabaseURL) -> None:  # noqa: ARG002  (there is no other)
        return None


class StoredURL:
    """The URL that a secret holds: read once, and once more when the server refuses its login.

    `finish` makes of the URL as it is stored the one to connect to.
    """

    def __init__(
        self,
        reference: SecretReference,
        extension: SecretsExtension | None,
        finish: Callable[[DatabaseURL], DatabaseURL],
    ) -> None:
        self.known: DatabaseURL | None = None
        self._reference = reference
        self._extension = extension
        self._finish = finish
        self._lock = Lock()
        self._rests_until = 0.0

    def current(self) -> DatabaseURL:
        if self.known:
            return self.known
        with self._turn():
            if self.known is None:
                with process.cold_start.phase("secret"):
                    self.known = self._url(secrets.read(self._reference, self._extension))
            return self.known

    def refreshed(self, refused: DatabaseURL) -> DatabaseURL | None:
        with self._turn():
            # Another thread may have refreshed it.
            if self.known == refused and time.monotonic() >= self._rests_until:
                stored = [self._url(text) for text in secrets.read_anew(self._reference)]
                self.known = next((url for url in stored if url != refused), refused)
                self._rests_until = time.monotonic() + REST_SECONDS if self.known == refused else 0.0
            return None if self.known == refused else self.known

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One reader at a time; the others wait for what it reads, by their deadlines."""
        deadline = current_deadline()
        if not self._lock.acquire(timeout=deadline.seconds_left if deadline else -1):
            raise DeadlineExceededError("the secret was not read in time")
        try:
            yield
        except SecretError as error:
            logger.warning("%s", error)
            raise
        finally:
            self._lock.release()

    def _url(self, text: str) -> DatabaseURL:
        try:
            return self._finish(_read(text))
        except DatabaseURLError as error:
            # Its text never holds the value.
            raise SecretError(f"{self._reference.variable}: {error}") from None


def source_for(settings: Settings) -> URLSource:
    """The source of the URL that serves requests, the same one for the same settings."""
    if settings.secret is None:
        return FixedURL(settings.application_url)
    source: URLSource = settings.sources.setdefault("application", _stored(settings, settings.switched))
    return source


def direct_url(settings: Settings) -> DatabaseURL:
    """The URL that migrations use, read from its secret if it is kept in one."""
    if settings.migration_database_url:
        return settings.migration_database_url.direct()
    if settings.secret is None or settings.database_url_unpooled:
        return settings.direct_url
    return _stored(settings, DatabaseURL.direct).current()


def _stored(settings: Settings, switch: Callable[[DatabaseURL], DatabaseURL]) -> StoredURL:
    assert settings.secret is not None  # noqa: S101  (the callers' condition)
    return StoredURL(
        settings.secret,
        settings.platform.secrets_extension,
        lambda url: switch(url.secured(settings.database_tls, ca_file())),
    )


def _read(text: str) -> DatabaseURL:
    """A URL as text, or the JSON that AWS makes for a database."""
    try:
        fields = json.loads(text)
    except ValueError:
        return DatabaseURL.parse(text)
    if not isinstance(fields, dict) or not isinstance(fields.get("host"), str):
        raise DatabaseURLError(
            "holds JSON without a host. Store a URL, or host, port, username, password and dbname."
        )
    port = str(fields.get("port") or "")
    if port and not (port.isdecimal() and 1 <= int(port) <= 65535):  # noqa: PLR2004  (16 bits)
        raise DatabaseURLError("holds a port that is none. Store a whole number from 1 to 65535.")
    if not str(fields.get("engine") or "postgres").startswith("postgres"):
        raise DatabaseURLError("is for another engine. Store the secret of a PostgreSQL database.")
    user, password, database = (
        None if fields.get(name) is None else str(fields[name]) for name in ("username", "password", "dbname")
    )
    return DatabaseURL(user, password, fields["host"], int(port) if port else None, database)
