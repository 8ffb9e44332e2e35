"""Statements compiled once: in reading sessions they are sent without SQLAlchemy's work for each execution.

The statement is SQLAlchemy's, and so are its types and its instances. In other sessions, and where a
statement or an event listener needs SQLAlchemy's own execution, it has that; the results are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar, TypeVarTuple, cast, overload

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult
from sqlalchemy import Engine, Row, Select, bindparam
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from ..connection.cursor import asked
from ..connection.dialect import GUARD, SETTINGS, SingleFlightAsyncDialect, SingleFlightDialect
from ..connection.preamble import Preamble
from ..connection.protocol import Message
from ..connection.single_flight import FlightAsyncConnection, FlightConnection
from ..observability.slow_queries import is_unheard
from ..pool.engines import READING
from ..pool.limited_pool import LimitedQueuePool
from ..pool.unit import as_part
from .loading import Loader, loader_of
from .session import ReadingSession

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# The server's, and its rows.
Answer = tuple[PGresult, list[tuple[Any, ...]]]
_NAMED = {SETTINGS, GUARD}
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_DIALECTS = (SingleFlightDialect, SingleFlightAsyncDialect)


class CompiledQuery(Generic[P, R]):
    """A query with typed parameters: `query.all(session, 7)`, or `await query.async_all(session, 7)`."""

    def __init__(self, function: Callable[P, Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        parameters = signature(function).parameters.values()
        self._names = tuple(each.name for each in parameters)
        self._defaults = {
            each.name: each.default for each in parameters if each.default is not Parameter.empty
        }
        # For each dialect: the one of sync engines, and that of async ones.
        self._loaders: dict[type, Loader | None] = {}

    @cached_property
    def statement(self) -> Select[Any]:
        """SQLAlchemy's statement, with a bound parameter for each of the function's."""
        make: Callable[..., Select[Any]] = self._function
        return make(**{name: bindparam(name) for name in self._names})

    def all(self, session: Session, /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """All results."""
        return self._fetched(session, self._values(args, kwargs))

    def first(self, session: Session, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The first result, or None."""
        return next(iter(self._fetched(session, self._values(args, kwargs))), None)

    def one(self, session: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The only result; raise SQLAlchemy's `NoResultFound` or `MultipleResultsFound`."""
        return _only(self._fetched(session, self._values(args, kwargs)))

    async def async_all(self, session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """`all` for async sessions."""
        return await session.run_sync(self._fetched, self._values(args, kwargs))

    async def async_first(self, session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """`first` for async sessions."""
        return next(iter(await session.run_sync(self._fetched, self._values(args, kwargs))), None)

    async def async_one(self, session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`one` for async sessions."""
        return _only(await session.run_sync(self._fetched, self._values(args, kwargs)))

    def _values(self, args: Sequence[object], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) == len(self._names) and not kwargs:
            return dict(zip(self._names, args, strict=True))
        values = {**self._defaults, **dict(zip(self._names, args, strict=False)), **kwargs}
        if len(values) != len(self._names) or len(args) + len(kwargs) > len(values):
            # Raises what a call of the function would.
            signature(self._function).bind(*args, **kwargs)
        return values

    def _fetched(self, session: Session, values: dict[str, Any]) -> list[R]:
        engine = _engine_of(session)
        loader = self._loader(engine.dialect) if engine else None
        if engine is None or loader is None:
            found = session.execute(self.statement, values)
            return list(found.scalars() if _is_scalar(self.statement) else found)
        with as_part(getattr(session, "_part", None)):
            answer = _asked(engine, loader, values)
        return loader.results(session, *answer)

    def _loader(self, dialect: Any) -> Loader | None:
        kind = type(dialect)
        if kind not in self._loaders:
            self._loaders[kind] = (
                loader_of(self.statement, dialect) if isinstance(dialect, _DIALECTS) else None
            )
        return self._loaders[kind]


@overload
def compiled(function: Callable[P, Select[T]]) -> CompiledQuery[P, T]: ...
@overload
def compiled(function: Callable[P, Select[*Ts]]) -> CompiledQuery[P, Row[*Ts]]: ...
def compiled(function: Callable[P, Any]) -> CompiledQuery[P, Any]:
    """Make a query of a function that builds its statement, compiled when it is first asked.

    The function is called once, with bound parameters in place of its arguments, so it must not look at them.
    A statement of one column or entity gives its values or instances; one of several gives rows.
    """
    return CompiledQuery(function)


def _engine_of(session: Session) -> Engine | None:
    """The engine from whose pool the query takes a connection; None if SQLAlchemy is to execute it."""
    if type(session) is not ReadingSession or session.has_ended or session.depth or session.get_transaction():
        return None
    engine, dispatch = session.bind, session.dispatch
    if not isinstance(engine, Engine) or dispatch.do_orm_execute or dispatch.loaded_as_persistent:
        return None
    options = engine.get_execution_options()
    if options != READING and {name: options.get(name) for name in options.keys() - _NAMED} != READING:
        return None
    # A reset is SQLAlchemy's, and has nothing to do here.
    is_unseen = is_unheard(engine) and not engine.pool.dispatch.reset and not engine._should_log_info()  # noqa: SLF001
    return engine if is_unseen else None


def _asked(engine: Engine, loader: Loader, values: dict[str, Any]) -> Answer:
    begin, pool, dialect = time.perf_counter(), cast("LimitedQueuePool", engine.pool), engine.dialect
    record = pool.lend()
    try:
        driver, options = record.driver_connection, engine.get_execution_options()
        preamble: Preamble = driver.preamble
        preamble.autocommit = preamble.read_only = True
        preamble.settings, preamble.guard = options.get(SETTINGS, _NO_SETTINGS), options.get(GUARD)
        try:
            return _sent(driver, loader, values)
        except psycopg.Error as error:
            if driver.closed:
                record.invalidate(error)
            raise _told(engine, loader, values, error, is_lost=driver.closed) from error
        finally:
            preamble.autocommit = preamble.read_only = False
            preamble.settings, preamble.guard = _NO_SETTINGS, None
    finally:
        record.checkin(_fairy_was_created=False)
        for judge in dialect.after_statements:  # type: ignore[attr-defined]  # the package's
            judge(loader.text, time.perf_counter() - begin)


def _sent(driver: FlightConnection | FlightAsyncConnection, loader: Loader, values: dict[str, Any]) -> Answer:
    adapter = Transformer(driver)
    message = loader.message(values, adapter)
    if isinstance(driver, FlightConnection):
        with driver.lock:
            answer = driver.wait(asked(driver, message))
    else:
        answer = await_only(_sent_async(driver, message))
    adapter.set_pgresult(answer)
    return answer, adapter.load_rows(0, answer.ntuples, tuple)


async def _sent_async(driver: FlightAsyncConnection, message: Message) -> PGresult:
    async with driver.lock:
        return await driver.wait(asked(driver, message))


def _told(
    engine: Engine, loader: Loader, values: dict[str, Any], error: psycopg.Error, *, is_lost: bool
) -> BaseException:
    """SQLAlchemy's error for the driver's."""
    return DBAPIError.instance(
        loader.text,
        values,
        error,
        psycopg.Error,
        hide_parameters=engine.hide_parameters,
        connection_invalidated=is_lost,
        dialect=engine.dialect,
    )


def _is_scalar(statement: Select[Any]) -> bool:
    return len(statement.column_descriptions) == 1


def _only(results: list[R]) -> R:
    if not results:
        raise NoResultFound("No row was found when one was required")
    if len(results) > 1:
        raise MultipleResultsFound("Multiple rows were found when exactly one was required")
    return results[0]
