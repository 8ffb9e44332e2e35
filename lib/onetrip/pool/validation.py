"""Validation: a connection that is checked out is alive, and finding that out costs nothing while in use.

Connections die while they are idle: the function is frozen, the server restarts, a NAT forgets. So a
connection is looked at when it is checked out: has the peer said something meanwhile (a local look
at the socket)? Only then, or after some idle seconds, is it asked, for at most a second, and after
as many as a pooler or NAT would keep it, it is replaced unasked.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError

from ..connection.idle_socket import HungUpError, has_spoken
from ..deadlines import deadline

PING_AFTER_SECONDS = 5.0
PING_SECONDS = 1.0
_SINCE = "idle_since"


def watch(engine: Engine, *, expires_seconds: float) -> None:
    """Check each connection of the engine's pool when it is handed out; replace the dead."""

    def noted(_: Any, record: Any) -> None:
        record.info[_SINCE] = _clocks()

    def checked(dbapi_connection: Any, record: Any, _: Any) -> None:
        since = record.info.pop(_SINCE, None)
        if since is None:
            return
        idle_seconds = max(now - then for now, then in zip(_clocks(), since, strict=True))
        if idle_seconds >= expires_seconds:
            raise DisconnectionError("idle for longer than it would be kept")
        spoke = _spoke(record.driver_connection.pgconn)
        if (spoke or idle_seconds >= PING_AFTER_SECONDS) and not _answers(engine, dbapi_connection):
            # The others have been idle as long: they are replaced unasked.
            raise InvalidatePoolError("did not answer")

    event.listen(engine, "checkin", noted)
    event.listen(engine, "checkout", checked)


def _clocks() -> tuple[float, float]:
    """The clock that counts while the machine is suspended, and the wall clock, for where it does not."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)), time.time()


def _spoke(pgconn: psycopg.pq.abc.PGconn) -> bool:
    try:
        return has_spoken(pgconn)
    except HungUpError:
        raise DisconnectionError("closed by the peer") from None


def _answers(engine: Engine, dbapi_connection: Any) -> bool:
    try:
        with deadline(PING_SECONDS):
            return engine.dialect.do_ping(dbapi_connection)
    except engine.dialect.loaded_dbapi.Error:
        return False
