"""Validation at checkout: a connection handed out is alive, and that costs nothing while it is in use.

Connections die unseen: the function is frozen, the server restarts, a NAT forgets. So a connection is
validated at checkout: has the peer said something meanwhile (a local look at the socket)? Only then, or
after some idle seconds, is it asked, for at most a second. After as many as a pooler or NAT would keep it,
it is replaced unasked. A peer that fell silent a moment ago is found by the first statement itself.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError

from ..connection.idle_socket import ClosedByServerError, has_unread_data
from ..connection.moment import Moment
from ..deadlines import deadline

PING_AFTER_SECONDS = 5.0
PING_SECONDS = 1.0
_SINCE = "idle_since"


def watch(engine: Engine, *, expires_seconds: float) -> None:
    """Check each connection of the engine's pool when it is handed out; replace the dead."""

    def noted(_: Any, record: Any) -> None:
        record.info[_SINCE] = Moment.now()

    def checked(dbapi_connection: Any, record: Any, _: Any) -> None:
        since: Moment | None = record.info.pop(_SINCE, None)
        if since is None:
            return
        idle_seconds = since.age_seconds
        if idle_seconds >= expires_seconds:
            raise DisconnectionError("idle for longer than it would be kept")
        spoke = _has_unread_data(record.driver_connection)
        if (spoke or idle_seconds >= PING_AFTER_SECONDS) and not _answers(engine, dbapi_connection):
            # The others have been idle as long: they are replaced unasked.
            raise InvalidatePoolError("did not answer")

    event.listen(engine, "checkin", noted)
    event.listen(engine, "checkout", checked)


def _has_unread_data(driver: Any) -> bool:
    try:
        # The answer to a ROLLBACK is expected; as long as it is not there, nothing else can be.
        driver.collect()
        return not driver.owes_answer and has_unread_data(driver.pgconn)
    except (ClosedByServerError, psycopg.OperationalError):
        raise DisconnectionError("closed by the peer") from None


def _answers(engine: Engine, dbapi_connection: Any) -> bool:
    try:
        with deadline(PING_SECONDS):
            return engine.dialect.do_ping(dbapi_connection)
    except engine.dialect.loaded_dbapi.Error:
        return False
