"""The context of an examination: each check adds the facts that later checks need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..url.database_url import DatabaseURL

if TYPE_CHECKING:
    from ..connection.bounded import BoundedConnection
    from ..settings.checked import CheckedSettings
    from ..settings.settings import Settings


@dataclass
class Case:
    """The project at `root`, run by `instances` processes (None: unknown)."""

    root: Path
    instances: int | None = None
    # The application's own settings.
    own: Sequence[type[CheckedSettings]] = ()
    _settings: Settings | None = None
    _urls: tuple[DatabaseURL, DatabaseURL] | None = None
    _connection: BoundedConnection | None = None
    # The reachable address: host and port, or the path of a unix socket.
    address: tuple[str, int] | str | None = None
    addresses: list[tuple[str, int]] = field(default_factory=list)
    # The ids of the checks that failed, in their order.
    failed: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        assert self._settings is not None  # noqa: S101  (the checks' order sees to it)
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def url(self) -> DatabaseURL:
        """The URL that serves requests."""
        assert self._urls is not None  # noqa: S101  (the checks' order sees to it)
        return self._urls[0]

    @property
    def direct_url(self) -> DatabaseURL:
        """The URL that migrations use."""
        assert self._urls is not None  # noqa: S101  (the checks' order sees to it)
        return self._urls[1]

    def learn_urls(self, url: DatabaseURL, direct_url: DatabaseURL) -> None:
        """Set the URLs in use; their source is the secret, if there is one."""
        self._urls = (url, direct_url)

    @property
    def connection(self) -> BoundedConnection:
        """A connection to `url`, in autocommit."""
        assert self._connection is not None  # noqa: S101  (the checks' order sees to it)
        return self._connection

    @connection.setter
    def connection(self, connection: BoundedConnection) -> None:
        self._connection = connection

    @property
    def is_connected(self) -> bool:
        """True while the connection is open."""
        return self._connection is not None and not self._connection.closed

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def secrets(self) -> Iterator[str]:
        """Yield the secrets that are known so far and must not be shown."""
        settings = self._settings
        replica = [settings.database_replica_url] if settings and settings.database_replica_url else []
        for url in [*(self._urls or ()), *replica]:
            yield from url.secrets
