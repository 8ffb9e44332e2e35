"""The end of a session's transaction is the session's: one by its connection is refused before it is sent.

SQLAlchemy would commit, and refuse the session's own commit afterwards: an error, and the row stored.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event

from ..errors import UsageError
from .second_session import session_of

_REMEDY = (
    "This connection belongs to a session, whose transaction it would end behind its back. "
    "Call commit() or rollback() of the session; for a part of its work use begin_nested()."
)


def watch(engine: Engine) -> None:
    """Refuse ends by connections of the engine that units of work hold."""
    heard: Any = engine
    before = heard._has_events  # noqa: SLF001  (it has no other name)
    event.listen(engine, "commit", _refuse_others)
    event.listen(engine, "rollback", _refuse_others)
    # The flag makes every connection look for listeners of all events. `second_session` sets it on those
    # that have something to end: transactions, and what the application has in its hands.
    heard._has_events = before  # noqa: SLF001


def _refuse_others(connection: Connection) -> None:
    if connection.closed or connection.invalidated:
        return
    session: Any = session_of(connection.info)
    if not getattr(session, "ends_by_itself", False):
        return
    transaction = session._transaction  # noqa: SLF001  (the innermost, flushes included)
    if transaction is None or not _is_its_own(session, connection):
        return
    while transaction is not None:
        if transaction._current_fn is not None:  # noqa: SLF001  (pinned by tests of every way to end one)
            return
        transaction = transaction.parent
    raise UsageError(_REMEDY)


def _is_its_own(session: Any, connection: Connection) -> bool:
    """True if the session opened the connection; one that it was given has an owner who ends it."""
    held = session.get_transaction()._connections.get(connection)  # noqa: SLF001
    return held is not None and held[-1]
