"""The first connection of an instance, opened while the instance still imports.

A cold start imports for about a second, and the handshake with a server some milliseconds away (or
asleep) fits into it: libpq does it without the interpreter's lock. A thread opens one connection and
the pool's first request for one takes it. Whatever goes wrong in the thread is only logged; the
request then connects as ever.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from lib.database_url import DatabaseURL
from lib.deadline import current_deadline
from lib.settings import Settings

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

# Older than this, it may have been frozen with the instance, and is not handed out.
FRESH_SECONDS = 5.0

logger = logging.getLogger(__name__)


class EarlyConnection:
    """A libpq connection to `url` that a thread opens from now on."""

    def __init__(self, url: DatabaseURL) -> None:
        self.url = url
        self._pgconn: PGconn | None = None
        self._opened_at = 0.0
        self._thread = threading.Thread(target=self._open, name="early-connection", daemon=True)
        self._thread.start()

    def take(self) -> PGconn | None:
        """The connection, waited for by the deadline at the latest; None if there is none, or no more."""
        deadline = current_deadline()
        self._thread.join(deadline.seconds_left if deadline else None)
        pgconn, self._pgconn = self._pgconn, None
        if pgconn is None or time.time() - self._opened_at < FRESH_SECONDS:
            return pgconn
        pgconn.finish()
        return None

    def _open(self) -> None:
        try:
            # In the thread, because psycopg's import is the first thing that takes time.
            from psycopg.pq import ConnStatus, PGconn  # noqa: PLC0415

            from lib.connector import conninfo  # noqa: PLC0415

            pgconn = PGconn.connect(conninfo(self.url).encode())
            if pgconn.status != ConnStatus.OK:
                raise ConnectionError(pgconn.status)
            self._opened_at = time.time()
            self._pgconn = pgconn
        except Exception as error:  # noqa: BLE001  (an instance starts even while its database is down)
            logger.info("no early connection: %s", type(error).__name__)


_early: EarlyConnection | None = None


def start(settings: Settings) -> None:
    """Begin to connect, on platforms that start an instance because a request waits for it."""
    global _early  # noqa: PLW0603  (one for each process)
    if settings.platform.starts_on_demand:
        _early = EarlyConnection(settings.application_url)


def take(url: DatabaseURL) -> PGconn | None:
    """The early connection if it leads to `url` and was not taken yet."""
    return _early.take() if _early and _early.url == url else None
