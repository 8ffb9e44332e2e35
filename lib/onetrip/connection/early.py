"""The first connection of an instance, opened while the instance still imports.

A cold start imports for half a second or more, and the handshake with a server some milliseconds
away (or asleep) fits into it: a thread that waits for a server leaves the processor to the imports.
It opens one connection, and the pool's first request for one takes it. Whatever goes wrong in the
thread is only logged; the request then connects as usual.
"""

from __future__ import annotations

import importlib.util
import logging
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .. import forks, resolver
from ..deadlines import Deadline, current_deadline, deadline
from ..errors import SecretError
from ..process import process
from .conninfo import CONNECT_TIMEOUT_SECONDS, connection_parameters, conninfo
from .early_url import likely_url
from .moment import Moment
from .source import FixedURL, URLSource, source_for

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

    # Takes Pydantic, which takes longer than what is wanted first.
    from ..settings.settings import Settings

# Older than this, it may have been frozen with the instance, and is not handed out.
FRESH_SECONDS = 5.0

logger = logging.getLogger(__name__)


class EarlyConnection:
    """A libpq connection to the URL of `source` that a thread opens from now on, by psycopg's `pq`."""

    def __init__(self, source: URLSource, pq: Any) -> None:
        self.source = source
        # Set once a request used it; the seconds of its handshake.
        self.used = False
        self.milliseconds: float | None = None
        self.began_at: float | None = None
        self._pq = pq
        self._pgconn: PGconn | None = None
        self._opened: Moment | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        # Taken, or closed: nothing may be left open.
        self._wanted = True
        self._claimed = threading.Event()
        forks.detach_in_children(self)
        threading.Thread(target=self._open, name="early-connection", daemon=True).start()

    @property
    def pgconn(self) -> PGconn | None:
        """The connection while it waits to be taken."""
        return self._pgconn

    def take(self) -> PGconn | None:
        """The connection, waited for by the deadline at the latest; None if there is none, or no more."""
        until = current_deadline()
        self._ready.wait(until.seconds_left if until else None)
        pgconn = self._claim()
        if pgconn is None:
            return None
        if self._opened and self._opened.age_seconds < FRESH_SECONDS and _is_open(pgconn):
            self.used = True
            return pgconn
        pgconn.finish()
        return None

    def close(self) -> None:
        """Close the connection unless it was taken, or as soon as it is made."""
        if pgconn := self._claim():
            pgconn.finish()

    def _claim(self) -> PGconn | None:
        with self._lock:
            pgconn, self._pgconn = self._pgconn, None
            self._wanted = False
        self._claimed.set()
        return pgconn

    def _open(self) -> None:
        try:
            self._connect()
        finally:
            self._ready.set()
        # Untaken until it is too old: this process has other work, and the server a connection less.
        if not self._claimed.wait(FRESH_SECONDS):
            self.close()

    def _connect(self) -> None:
        try:
            url = self.source.current()
        except SecretError:
            # It was logged, and the first request reads it again.
            return
        begin = self.began_at = time.perf_counter()
        try:
            # libpq would wait for a name server without a bound.
            with deadline(CONNECT_TIMEOUT_SECONDS):
                parameters = resolver.resolved(connection_parameters(url))
        except OSError as error:
            logger.info("the early connection was not made: %s", error)
            return
        pgconn = self._pq.PGconn.connect_start(conninfo(parameters).encode())
        if not self._shakes_hands(pgconn):
            pgconn.finish()
            # An instance starts even while its database is down.
            logger.info("the early connection was not made")
            return
        pgconn.nonblocking = 1
        self.milliseconds = round((time.perf_counter() - begin) * 1000, 3)
        self._opened = Moment.now()
        with self._lock:
            if self._wanted:
                self._pgconn = pgconn
                return
        pgconn.finish()

    def _shakes_hands(self, pgconn: PGconn) -> bool:
        """Let libpq connect, waiting for the server without the interpreter's lock; whether it did."""
        until = Deadline.after(CONNECT_TIMEOUT_SECONDS)
        status = self._pq.PollingStatus
        # `PGconn.connect` would hold the lock until the server has answered.
        while not until.is_over and pgconn.status != self._pq.ConnStatus.BAD:
            match pgconn.connect_poll():
                case status.OK:
                    return True
                case status.READING:
                    _wait(pgconn.socket, select.POLLIN, until.seconds_left)
                case status.WRITING:
                    _wait(pgconn.socket, select.POLLOUT, until.seconds_left)
                case _:
                    return False
        return False


def _wait(socket: int, event: int, seconds: float) -> None:
    # Not `select`, which knows no file number above 1,023.
    look = select.poll()
    look.register(socket, event)
    look.poll(seconds * 1000)


def _is_open(pgconn: PGconn) -> bool:
    """Return True if the server has not closed the connection."""
    # Needs psycopg, which is not whole before.
    from .idle_socket import ClosedByServerError, has_unread_data  # noqa: PLC0415

    try:
        has_unread_data(pgconn)
    except ClosedByServerError:
        return False
    return True


def start_likely() -> None:
    """Begin to connect to where the environment points, before anything else is imported."""
    if url := likely_url():
        _start(FixedURL(url))


def start(settings: Settings) -> None:
    """Begin to connect, on platforms that start an instance because a request waits for it."""
    source = source_for(settings)
    if settings.platform.starts_on_demand and not _to(source):
        _start(source)


def take(source: URLSource) -> PGconn | None:
    """The early connection if it leads where `source` says and was not taken yet."""
    early = _to(source)
    return early.take() if early else None


def close(source: URLSource) -> None:
    """Close the early connection to where `source` says, unless it was taken."""
    if early := _to(source):
        early.close()


def _to(source: URLSource) -> EarlyConnection | None:
    """The early connection of this process if it leads where `source` says."""
    early = process.early_connection
    return early if early and early.source == source else None


def _start(source: URLSource) -> None:
    if "psycopg" in sys.modules:
        from psycopg import pq  # noqa: PLC0415

        process.early_connection = EarlyConnection(source, pq)
        return
    # Importing psycopg imports its binding of libpq first, which is half of the work and all that
    # connecting takes: the connection is begun in between.
    spec = importlib.util.find_spec("psycopg")
    assert spec is not None  # noqa: S101  (it is required)
    assert spec.loader is not None  # noqa: S101  (it is a package with code)
    package = sys.modules["psycopg"] = importlib.util.module_from_spec(spec)
    process.early_connection = EarlyConnection(source, importlib.import_module("psycopg.pq"))
    spec.loader.exec_module(package)
