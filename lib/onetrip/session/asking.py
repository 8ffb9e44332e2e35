"""Statements of reading sessions without SQLAlchemy's execution, on an own connection or a shared one."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, cast
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from ..connection.cursor import asked_alone
from ..connection.dialect import GUARD, SETTINGS
from ..connection.preamble import Preamble
from ..connection.protocol import Message
from ..connection.single_flight import FlightAsyncConnection, FlightConnection
from ..observability.slow_queries import are_heard, is_heard, is_unheard
from ..pool.engines import READING
from ..pool.limited_pool import LimitedQueuePool
from ..pool.unit import as_part
from .exclusive import exclusive
from .loading import Loader, Values

# The server's, and its rows.
Answer = tuple[PGresult, list[tuple[Any, ...]]]
_NAMED = {SETTINGS, GUARD}
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
# What happens to a session when SQLAlchemy executes a statement in it.
_OF_SESSION = (
    *("do_orm_execute", "loaded_as_persistent"),
    *("after_begin", "after_transaction_create", "after_transaction_end"),
)
# SQLAlchemy's own collections of what listens to all sessions of a class.
_of_class: WeakKeyDictionary[type, list[Collection[Any]]] = WeakKeyDictionary()


def engine_of(session: Any) -> Engine | None:
    """The engine from whose pool the query takes a connection; None if SQLAlchemy is to execute it."""
    find = getattr(session, "engine_to_ask", None)
    if find is None or session.has_ended or session.depth or not session._is_clean():  # noqa: SLF001
        # What was added or changed is to be flushed first, as before every query.
        return None
    engine = find()
    if session.get_transaction() or not isinstance(engine, Engine) or _is_session_heard(session):
        return None
    options = engine.get_execution_options()
    if options != READING and {name: options.get(name) for name in options.keys() - _NAMED} != READING:
        return None
    return engine if is_unseen(engine) else None


def is_unseen(engine: Engine) -> bool:
    """True if nothing of the application's listens to the engine's statements and connections."""
    # A reset is SQLAlchemy's, and has nothing to do here.
    return is_unheard(engine) and not engine.pool.dispatch.reset and not engine._should_log_info()  # noqa: SLF001


def _is_session_heard(session: Any) -> bool:
    """True if something of the application's listens to the session."""
    if "dispatch" in session.__dict__:
        return is_heard(session.dispatch, _OF_SESSION)
    return is_class_heard(type(session))


def is_class_heard(session_class: type[Session]) -> bool:
    """True if something of the application's listens to all sessions of a class."""
    listeners = _of_class.get(session_class)
    if listeners is None:
        # A look at a session's events would make an object for each of them.
        events: list[Any] = [getattr(session_class.dispatch, name) for name in _OF_SESSION]
        for each in events:
            each.update_subclass(session_class)
        listeners = _of_class[session_class] = [each._clslevel[session_class] for each in events]  # noqa: SLF001
    return are_heard(listeners)


@exclusive
def asked(session: Any, engine: Any, loader: Loader, values: Values) -> list[Any] | None:
    """The results of the loader's statement; None if SQLAlchemy is to execute it after all."""
    # An executor's threads do not know of the request whose session they are given.
    with as_part(session._part):  # noqa: SLF001  (the package's)
        try:
            answer = answered(engine, loader, values)
        except session.not_sent:
            return None
    return loader.results(session, *answer)


def answered(engine: Engine, loader: Loader, values: Values) -> Answer:
    """The answer to the loader's statement, on a connection of the engine's pool."""
    bound = bound_values(engine, loader, values)
    begin, pool, dialect = time.perf_counter(), cast("LimitedQueuePool", engine.pool), engine.dialect
    try:
        record = pool.take()
    except psycopg.Error as error:
        is_lost = dialect.is_disconnect(error, None, None)  # type: ignore[arg-type]
        raise told(engine, None, None, error, is_lost=is_lost) from error
    try:
        driver, options = record.driver_connection, engine.get_execution_options()
        preamble: Preamble = driver.preamble
        preamble.autocommit = preamble.read_only = True
        preamble.settings, preamble.guard = options.get(SETTINGS, _NO_SETTINGS), options.get(GUARD)
        try:
            return _sent(driver, loader, bound)
        except psycopg.Error as error:
            if driver.closed:
                record.invalidate(error)
            raise told(engine, loader.text, values, error, is_lost=driver.closed) from error
        finally:
            preamble.autocommit = preamble.read_only = False
            preamble.settings, preamble.guard = _NO_SETTINGS, None
    finally:
        record.checkin(_fairy_was_created=False)
        judge(engine, loader, begin)


def bound_values(engine: Engine, loader: Loader, values: Values) -> list[Any]:
    """The values to send; raise SQLAlchemy's error for one that its type does not take."""
    try:
        return loader.bound(values)
    except Exception as error:
        raise told(engine, loader.text, values, error, is_lost=False) from error


def judge(engine: Engine, loader: Loader, begin: float) -> None:
    """Tell those who watch for slow statements how long this one took."""
    for each in engine.dialect.after_statements:  # type: ignore[attr-defined]  # the package's
        each(loader.text, time.perf_counter() - begin)


def _sent(driver: Any, loader: Loader, bound: list[Any]) -> Answer:
    adapter = Transformer(driver)
    message = loader.message(bound, adapter)
    if isinstance(driver, FlightConnection):
        with driver.lock:
            answer = driver.wait(asked_alone(driver, message))
        adapter.set_pgresult(answer)
    elif isinstance(driver, FlightAsyncConnection):
        answer = await_only(_sent_async(driver, message))
        adapter.set_pgresult(answer)
    else:
        # A seat, whose answer came on any connection.
        answer, adapter = driver.asked(message)
    return answer, adapter.load_rows(0, answer.ntuples, tuple)


async def _sent_async(driver: FlightAsyncConnection, message: Message) -> PGresult:
    async with driver.lock:
        return await driver.wait(asked_alone(driver, message))


def told(
    engine: Engine, text: str | None, values: Values | None, error: Exception, *, is_lost: bool
) -> BaseException:
    """SQLAlchemy's error for the driver's, or a type's."""
    return DBAPIError.instance(
        text,
        values,
        error,
        psycopg.Error,
        hide_parameters=engine.hide_parameters,
        connection_invalidated=is_lost,
        dialect=engine.dialect,
    )
