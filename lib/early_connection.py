"""The first connection of an instance, opened while the instance still imports.

A cold start imports for about a second, and the handshake with a server some milliseconds away (or
asleep) fits into it: a thread that waits for a server leaves the processor to the imports. It opens
one connection, and the pool's first request for one takes it. Whatever goes wrong in the thread is
only logged; the request then connects as ever.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from lib.deadline import current_deadline
from lib.errors import SecretError
from lib.settings import Settings
from lib.url_source import URLSource

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

# Older than this, it may have been frozen with the instance, and is not handed out.
FRESH_SECONDS = 5.0

logger = logging.getLogger(__name__)


class EarlyConnection:
    """A libpq connection to the URL of `source` that a thread opens from now on."""

    def __init__(self, source: URLSource) -> None:
        self.source = source
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
        # Imported in the thread: psycopg is the first thing that takes time.
        from psycopg import Error, generators, waiting  # noqa: PLC0415

        from lib.connector import CONNECT_TIMEOUT_SECONDS, conninfo  # noqa: PLC0415

        try:
            # Not `PGconn.connect`, which holds the interpreter's lock until the server has answered.
            handshake = generators.connect(conninfo(self.source.current()))
            self._pgconn = waiting.wait_conn(handshake, interval=0.1, timeout=CONNECT_TIMEOUT_SECONDS)
            self._opened_at = time.time()
        except (Error, SecretError):
            # An instance starts even while its database is down.
            logger.info("the early connection was not made")


_early: EarlyConnection | None = None


def start(settings: Settings) -> None:
    """Begin to connect, on platforms that start an instance because a request waits for it."""
    global _early  # noqa: PLW0603  (one for each process)
    if settings.platform.starts_on_demand:
        _early = EarlyConnection(settings.url_source)


def take(source: URLSource) -> PGconn | None:
    """The early connection if it leads where `source` says and was not taken yet."""
    return _early.take() if _early and _early.source == source else None
