"""A request's second session: the first one's transaction is ended for it where that cannot be noticed.

That is so where the transaction only read, in READ COMMITTED, where each statement sees what is true then.
So `get_current_user` may look the caller up by one session, and the route write by another.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import Any
from weakref import ref

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, SessionTransactionOrigin
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from .limiter import Limiter, running_loop
from .place import Place

_SESSION = "session_of_request"
_DID_MORE = "did_more_than_read"
# Longer statements are not looked at, nor remembered.
_LONGEST_TEXT = 10_000
# Longer than any deadline of a request: the wait ends with its own.
_LONGEST_SECONDS = 900.0

_READ = re.compile(r"\s*(SELECT|WITH|VALUES)\b", re.IGNORECASE)
_MORE = re.compile(
    r";|\b(INSERT|UPDATE|DELETE|MERGE|INTO|FOR\s+(UPDATE|SHARE|NO|KEY))\b|\"\s*\(", re.IGNORECASE
)
_CALLED = re.compile(r"(\w+)\s*\(")
# What may stand before a parenthesis: words of SQL, types, and functions that do nothing but compute.
_HARMLESS = frozenset(
    re.findall(
        r"\w+",
        """
    abs all and any array as avg between bool_and bool_or by case cast ceil char coalesce concat count
    current_timestamp date_trunc distinct else every except exists extract filter floor from
    generate_series greatest group having in intersect interval is join json_agg json_build_object
    jsonb_agg jsonb_build_object lateral least left length like limit ilike lower max min mod not now
    nullif numeric offset on or order over partition position random replace right round row row_number
    select similar some string_agg substring sum then time timestamp to_char to_tsquery to_tsvector trim
    union unnest upper using values varchar when where
""",
    )
)
_ENDS_UNNOTICED = (
    "SELECT pg_current_xact_id_if_assigned() IS NULL"
    " AND current_setting('transaction_isolation') = 'read committed'"
)


def watch(engine: Engine) -> None:
    """Note from now on which sessions hold connections of the engine, and whether they only read."""
    dialect: Any = engine.dialect
    if _note_statement not in dialect.before_statements:
        dialect.before_statements += (_note_statement,)
    if not event.contains(Session, "after_begin", _note_session):
        event.listen(Session, "after_begin", _note_session)


def keep(connection: Connection) -> None:
    """Leave the connection to its session: the application has it in its hands."""
    connection.info[_DID_MORE] = True


def session_of(info: Any) -> Session | None:
    """The session that holds the connection of which `info` is told."""
    noted = info.get(_SESSION)
    return noted() if noted else None


def end_unnoticed(place: Place) -> bool:
    """End the transaction of the session that has the request's place, called in a thread or task of it.

    Returns False, and does nothing, if that could be noticed.
    """
    held = _held(place.record)
    if held is None:
        return False
    session, connection, loop = *held, place.loop
    if in_greenlet():
        if connection.dialect.is_async:
            return _end(session, connection)
        return bool(await_only(asyncio.to_thread(_end, session, connection)))
    if not connection.dialect.is_async:
        return _end(session, connection)
    if loop is None or running_loop():
        return False
    ended = asyncio.run_coroutine_threadsafe(greenlet_spawn(_end, session, connection), loop)
    return bool(ended.result(_LONGEST_SECONDS))


def _note_session(session: Session, _transaction: Any, connection: Connection) -> None:
    # A mock has every attribute.
    if isinstance(getattr(connection.engine.pool, "limiter", None), Limiter):
        info = connection.info
        info[_SESSION], info[_DID_MORE] = ref(session), False


def _note_statement(statement: str, context: Any) -> None:
    plain = len(statement) <= _LONGEST_TEXT and is_plain_read(statement)
    if not plain or getattr(context, "_is_server_side", False):
        context.root_connection.info[_DID_MORE] = True


@lru_cache(maxsize=1024)
def is_plain_read(statement: str) -> bool:
    """True if the statement reads, and can do nothing else."""
    if not _READ.match(statement) or _MORE.search(statement):
        return False
    return all(name.lower() in _HARMLESS for name in _CALLED.findall(statement))


def _held(record: Any) -> tuple[Session, Connection] | None:
    """The session that holds the connection, if nothing is known against its end."""
    if record is None:
        return None
    session = session_of(record.info)
    transaction = session.get_transaction() if session else None
    if not session or not transaction or record.info.get(_DID_MORE, True):
        return None
    if transaction.origin is not SessionTransactionOrigin.AUTOBEGIN or session.get_nested_transaction():
        return None
    connections = {connection for connection, *_ in transaction._connections.values()}  # noqa: SLF001
    if getattr(session, "depth", 0) or len(connections) != 1:
        return None
    connection = connections.pop()
    its_own = not connection.closed and connection.info is record.info
    return (session, connection) if its_own else None


def _end(session: Session, connection: Connection) -> bool:
    transaction, driver = session.get_transaction(), connection.connection.driver_connection
    assert transaction is not None  # noqa: S101  (looked at before)
    assert driver is not None  # noqa: S101  (checked out)
    if driver.pgconn.transaction_status != TransactionStatus.INTRANS:
        return False
    if not connection.exec_driver_sql(_ENDS_UNNOTICED).scalar():
        return False
    transaction.close()
    return True
