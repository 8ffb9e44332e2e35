"""Dependencies of routes: the database, and sessions on it that end before the response exists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from inspect import isawaitable, signature
from types import TracebackType
from typing import Annotated, Any

from fastapi import Depends
from fastapi.requests import HTTPConnection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from ..connection.dialect import GUARD, SETTINGS
from ..errors import UsageError
from ..pool.claims import reserve
from ..pool.database import Database
from ..session.session import (
    NO_OPTIONS,
    Options,
    async_reading,
    async_transaction,
    ending,
    reading,
    transaction,
)
from .concurrency import leave, runs_inline
from .services import services_of

# Every dependency is async, even one that waits for nothing: FastAPI sends sync ones to a thread each.


async def get_database(connection: HTTPConnection) -> Database:
    """The database that the application was installed with, in mounted applications and WebSockets too."""
    database = services_of(connection).database
    _refuse_late_ends(connection)
    if database is None:
        raise UsageError(
            "This application was installed without a database. Give it one: install(app, database)."
        )
    return database


DatabaseDep = Annotated[Database, Depends(get_database)]


class opened:  # noqa: N801  (used like a function)
    """A sync session for a route, by `transaction` or `reading`, once there is a place for its connection."""

    __slots__ = ("_database", "_give_up", "_manager", "_opener", "_options", "_session")

    def __init__(
        self,
        database: Database,
        opener: Callable[[Database, Options], AbstractContextManager[Any]],
        options: Options = NO_OPTIONS,
    ) -> None:
        self._database = database
        self._opener = opener
        self._options = options

    async def __aenter__(self) -> Any:
        database, options, opener = self._database, self._options, self._opener
        self._give_up: Callable[[], None] | None = None
        if opener is reading:
            database.readers.add(self)
        try:
            if opener is reading and _shares(database, options):
                from ..session.shared import sharing as opener  # noqa: PLC0415  (once it is needed)
            else:
                self._give_up = await reserve(database.limiter)
            self._manager = opener(database, options)
            self._session = self._manager.__enter__()
        except BaseException:
            self._end()
            raise
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            return await leave(partial(self._manager.__exit__, kind, error, traceback), self._session, error)
        finally:
            self._end()

    def _end(self) -> None:
        self._database.readers.discard(self)
        if self._give_up:
            self._give_up()


async def _entered(connection: HTTPConnection, manager: Any) -> Any:
    """What `manager` yields; FastAPI leaves it once the route has returned, before the response exists."""
    return await connection.scope["fastapi_function_astack"].enter_async_context(manager)


async def _database_of(connection: HTTPConnection) -> Database:
    # Not by FastAPI: to it, a dependency of a dependency costs as much as the opening of the session.
    overrides = getattr(connection.scope["app"], "dependency_overrides", None)
    if not overrides or get_database not in overrides:
        return await get_database(connection)
    override = overrides[get_database]
    given = override(*([connection] if signature(override).parameters else []))
    database: Database = await given if isawaitable(given) else given
    return database


async def get_session(connection: HTTPConnection) -> Session:
    """The session of `SessionDep`."""
    session: Session = await _entered(connection, opened(await _database_of(connection), transaction))
    return session


async def get_read_session(connection: HTTPConnection) -> Session:
    """The session of `ReadSessionDep`."""
    session: Session = await _entered(connection, opened(await _database_of(connection), reading))
    return session


async def get_async_session(connection: HTTPConnection) -> AsyncSession:
    """The session of `AsyncSessionDep`."""
    session: AsyncSession = await _entered(connection, async_transaction(await _database_of(connection)))
    return session


async def get_async_read_session(connection: HTTPConnection) -> AsyncSession:
    """The session of `AsyncReadSessionDep`."""
    session: AsyncSession = await _entered(connection, _async_reads(await _database_of(connection)))
    return session


class _async_reads:  # noqa: N801  (used like a function)
    """An async reading session for a route."""

    __slots__ = ("_database", "_manager")

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> AsyncSession:
        opener: Any = async_reading
        self._database.readers.add(self)
        try:
            if _shares(self._database, NO_OPTIONS):
                from ..session.shared import async_sharing as opener  # noqa: PLC0415  (once it is needed)
            self._manager = opener(self._database)
            session: AsyncSession = await self._manager.__aenter__()
        except BaseException:
            self._database.readers.discard(self)
            raise
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._manager.__aexit__(kind, error, traceback)
        finally:
            self._database.readers.discard(self)


def _shares(database: Database, options: Options) -> bool:
    """Tell whether a reading session of this request shares connections with other requests."""
    return runs_inline.get() is False and database.shares_now and options.keys() <= {SETTINGS, GUARD}


# Function scope: the transaction commits before the response exists, so a COMMIT that fails becomes
# an error status. With the default scope it would run after a 2xx was sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
AsyncSessionDep = Annotated[AsyncSession, Depends(get_async_session, scope="function")]
ReadSessionDep = Annotated[Session, Depends(get_read_session, scope="function")]
AsyncReadSessionDep = Annotated[AsyncSession, Depends(get_async_read_session, scope="function")]


# The mark of a route whose dependencies were looked at.
_SEEN = "onetrip_seen"


def _refuse_late_ends(connection: HTTPConnection) -> None:
    """Refuse a route whose session would be committed after its answer was sent."""
    route = connection.scope.get("route")
    if connection.scope["type"] != "http" or route is None or hasattr(route, _SEEN):
        return
    ours = {get_session, get_read_session, get_async_session, get_async_read_session}
    overrides = getattr(connection.scope.get("app"), "dependency_overrides", {})
    dependants = [route.dependant]
    while dependants:
        dependant = dependants.pop()
        dependants += dependant.dependencies
        if dependant.scope != "function" and overrides.get(dependant.call, dependant.call) in ours:
            name = dependant.call.__name__
            raise UsageError(
                f"The session of Depends({name}) would be committed after the answer was sent. "
                f'Take SessionDep or its like, or Depends({name}, scope="function").'
            )
    setattr(route, _SEEN, True)


def session_dependency(factory: Any, *, commit: bool = False) -> Any:
    """A dependency that opens sessions of the application's own class.

    Used as `Annotated[MySession, session_dependency(MySession)]`. `factory` is a class of sessions, sync or
    async, SQLModel's too, or a sessionmaker. Without a `bind` of its own it is bound to the installed
    database. The routes commit, as they ever did. With `commit`, what they left uncommitted is committed at
    the end, before the response exists.
    """
    made, options = getattr(factory, "class_", factory), dict(getattr(factory, "kw", {}))
    if issubclass(made, AsyncSession):
        options.setdefault("sync_session_class", made.sync_session_class)
        return Depends(_own_async_session(made, options, commit=commit), scope="function")
    return Depends(_own_session(ending(made), options, commit=commit), scope="function")


def _own_session(made: type[Any], options: dict[str, Any], *, commit: bool) -> Any:
    async def get_own_session(database: DatabaseDep) -> AsyncIterator[Session]:
        engine = options.get("bind") or database.engine
        async with opened(
            database, partial(_session_ended, made, {**options, "bind": engine}, commit)
        ) as session:
            yield session

    return get_own_session


def _own_async_session(made: type[AsyncSession], options: dict[str, Any], *, commit: bool) -> Any:
    unit_class = ending(options["sync_session_class"])

    async def get_own_async_session(database: DatabaseDep) -> AsyncIterator[AsyncSession]:
        engine = options.get("bind") or database.async_engine
        async with made(**{**options, "bind": engine, "sync_session_class": unit_class}) as session:
            try:
                yield session
                if commit:
                    await session.commit()
            finally:
                session.sync_session.has_ended = True  # type: ignore[attr-defined]  # a UnitSession

    return get_own_async_session


@contextmanager
def _session_ended(made: type[Any], options: dict[str, Any], commit: bool, *_: object) -> Iterator[Any]:  # noqa: FBT001
    session = made(**options)
    try:
        yield session
        if commit:
            session.commit()
    finally:
        session.end()
