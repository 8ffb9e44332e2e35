"""The end of a session's transaction is the session's: one by its connection is refused before it is sent.

SQLAlchemy would commit, and refuse the session's own commit afterwards: an error, and the row stored.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from ..errors import UsageError
from .second_session import session_of

_REMEDY = (
    "This connection belongs to a session, whose transaction it would end behind its back. "
    "Call commit() or rollback() of the session; for a part of its work use begin_nested()."
)


def watch(engine: Engine) -> None:
    """Refuse ends by connections of the engine that units of work hold."""
    dialect: Any = engine.dialect
    if _refuse_others not in dialect.before_ends:
        dialect.before_ends += (_refuse_others,)


def _refuse_others(pooled: Any) -> None:
    # None once it was invalidated; the driver's own connection has no record.
    record = getattr(pooled, "_connection_record", None)
    session: Any = session_of(record.info) if record else None
    if not getattr(session, "ends_by_itself", False):
        return
    transaction = session._transaction  # noqa: SLF001  (the innermost, flushes included)
    if transaction is None or not _is_its_own(session, record):
        return
    while transaction is not None:
        if transaction._current_fn is not None:  # noqa: SLF001  (pinned by tests of every way to end one)
            return
        transaction = transaction.parent
    raise UsageError(_REMEDY)


def _is_its_own(session: Any, record: Any) -> bool:
    """True if the session opened the connection; one that it was given has an owner who ends it."""
    held = session.get_transaction()._connections.values()  # noqa: SLF001
    return any(
        is_own and not connection.closed and connection.info is record.info for connection, *_, is_own in held
    )
