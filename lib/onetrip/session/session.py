"""Units of work: begin, work, commit or roll back; the same in routes, scripts and jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AsyncContextDecorator, ContextDecorator, contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from ..connection.dialect import LAST
from ..errors import ConcurrentUseError, EndedSessionError, UsageError
from ..pool.database import Database, database
from ..pool.second_session import keep
from ..pool.unit import as_part, current_part, runner, serving
from .by_key import ASK_SQLALCHEMY, instance_by_key
from .exclusive import CONCURRENT, exclusive

# LAST is an execution option for a unit's last statement: the COMMIT goes along with it.
__all__ = ["LAST", "async_reading", "async_transaction", "reading", "transaction"]

Options = Mapping[str, object]
E = TypeVar("E", Engine, AsyncEngine)
S = TypeVar("S", bound=Session)
NO_OPTIONS: Options = MappingProxyType({})
_ENDED = (
    "This session has ended with its request or block, and was used afterwards: in a stream, a background "
    "task, or a task or thread of its own. Open another one there: `with onetrip.transaction() as session:`, "
    "or onetrip.reading(), async_transaction(), async_reading()."
)


class UnitSession(Session):
    """A session that refuses to work once its unit of work has ended, and for two at once."""

    has_ended = False
    # Its connection does not end its transaction.
    ends_by_itself = True
    # The task or thread that is at work with it, and how many calls deep.
    user: object = None
    depth = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part = current_part()

    def end(self) -> None:
        """Close the session for good; a transaction that is still open is rolled back."""
        self.has_ended = True
        self.close()

    @property
    def is_at_rest(self) -> bool:
        """True if ending it sends nothing, and so waits for nothing."""
        return self._has_sent_nothing and self._is_clean()

    @property
    def _has_sent_nothing(self) -> bool:
        transaction = self.get_transaction()
        held = transaction._connections.values() if transaction else ()  # noqa: SLF001
        return not any(_is_open(connection) for connection, *_ in held)

    def begin(self, nested: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002  (SQLAlchemy's)
        """Begin a transaction, or join the one that began by itself, in a dependency for instance."""
        begun = self.get_transaction()
        if begun and not nested and begun.origin is SessionTransactionOrigin.AUTOBEGIN:
            return begun
        return super().begin(nested)

    def connection(self, *arguments: Any, **options: Any) -> Connection:
        """The session's connection, kept for it until the transaction ends."""
        connection = super().connection(*arguments, **options)
        keep(connection)
        return connection

    @exclusive
    def commit(self) -> None:
        """Commit the transaction."""
        super().commit()

    @exclusive
    def rollback(self) -> None:
        """Roll the transaction back."""
        super().rollback()

    def close(self) -> None:
        """Close the session; it may be used again, unless it has ended."""
        if self.depth and self.user != runner():
            if self.has_ended:
                return
            raise ConcurrentUseError(CONCURRENT)
        super().close()

    @exclusive
    def _execute_internal(self, *arguments: Any, **options: Any) -> Any:
        return super()._execute_internal(*arguments, **options)

    @exclusive
    def _flush(self, *arguments: Any, **options: Any) -> None:
        super()._flush(*arguments, **options)

    def _connection_for_bind(self, engine: Any, *arguments: Any, **options: Any) -> Any:
        transaction = self._transaction
        if self._part is None or (transaction and engine in transaction._connections):  # noqa: SLF001
            return super()._connection_for_bind(engine, *arguments, **options)
        # An executor's threads do not know of the request whose session they are given.
        with as_part(self._part):
            return super()._connection_for_bind(engine, *arguments, **options)

    def _autobegin_t(self, begin: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002  (SQLAlchemy's)
        if self.has_ended:
            raise EndedSessionError(_ENDED)
        return super()._autobegin_t(begin)


class ReadingSession(UnitSession):
    """A session without a transaction, which keeps no connection between two queries."""

    # The errors of a query that was not sent, and that SQLAlchemy is to execute.
    not_sent: tuple[type[Exception], ...] = ()
    # Set while the connection is needed beyond a query.
    _keeps_connection = False

    def engine_to_ask(self) -> Any:
        """The engine for a query that is sent without SQLAlchemy's execution."""
        return self.bind

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """SQLAlchemy's, by a query that is compiled once where nothing more is asked for."""
        instance = ASK_SQLALCHEMY if any(options.values()) else instance_by_key(self, entity, ident)
        return super().get(entity, ident, **options) if instance is ASK_SQLALCHEMY else instance

    def connection(self, *arguments: Any, **options: Any) -> Connection:
        """The session's connection, kept until the session is closed."""
        self._keeps_connection = True
        return super().connection(*arguments, **options)

    def close(self) -> None:
        """Close the session; it may be used again."""
        self._keeps_connection = False
        super().close()

    @contextmanager
    def keeping_connection(self) -> Iterator[None]:
        """Keep one connection for the block."""
        before, self._keeps_connection = self._keeps_connection, True
        try:
            yield
        finally:
            self._keeps_connection = before
            self.let_go()

    def let_go(self) -> None:
        """Give the connection back, unless a stream, a transaction or the application still needs it."""
        transaction = self.get_transaction()
        begun_by_itself = transaction and transaction.origin is SessionTransactionOrigin.AUTOBEGIN
        # A flush reads within its own transaction what a deletion concerns.
        is_needed = self._keeps_connection or self._flushing
        if transaction and begun_by_itself and not is_needed and self._has_sent_nothing:
            transaction.close()

    @exclusive
    def _execute_internal(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super()._execute_internal(*arguments, **options)
        finally:
            self.let_go()


# No session here expires its objects on commit: reading each again would cost a round trip.


class _Unit:
    """A block with a session of its own, by a class: a generator would cost each request twice that."""

    def __init__(self, of: Database | None = None, options: Options = NO_OPTIONS) -> None:
        self._of = of
        self._options = options

    def _begun(self, session: Any) -> Any:
        """Keep the block's session; a second block would lose it, and what it has written."""
        if hasattr(self, "_session"):
            raise UsageError(f"This {type(self).__name__}() has had its block. Call it anew for each block.")
        self._session = session
        return session

    def _recreate_cm(self) -> Any:
        # For each call of a function that it decorates.
        return type(self)(self._of, self._options)


class transaction(_Unit, ContextDecorator):  # noqa: N801  (used like a function)
    """A session whose work is committed when the block ends, and rolled back if it raises.

    `of` is the database; without it, the one of the application that serves the request, or the process's.

    `commit()` and `rollback()` within it work as usual: the session goes on, and the rest is committed at the
    end. For a savepoint use `with session.begin_nested()`. `options` are execution options of all that it
    does, such as `SETTINGS` of the dialect.
    """

    def __enter__(self) -> Session:
        engine = _with(_chosen(self._of).engine, self._options)
        session: Session = self._begun(UnitSession(engine, expire_on_commit=False))
        return session

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._session.commit()
        finally:
            self._session.end()


class async_transaction(_Unit, AsyncContextDecorator):  # noqa: N801
    """`transaction` for async code."""

    async def __aenter__(self) -> AsyncSession:
        session: AsyncSession = self._begun(
            _async_session(_with(_chosen(self._of).async_engine, self._options), UnitSession)
        )
        return session

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self._session.commit()
        finally:
            await async_end(self._session)


class reading(_Unit, ContextDecorator):  # noqa: N801
    """A session without a transaction, one round trip a query; any write is refused (SQLSTATE 25006)."""

    def __enter__(self) -> ReadingSession:
        engine = _with(_chosen(self._of).reading_options_engine, self._options)
        session: ReadingSession = self._begun(ReadingSession(engine, expire_on_commit=False))
        return session

    def __exit__(self, *_: object) -> None:
        self._session.end()


class async_reading(_Unit, AsyncContextDecorator):  # noqa: N801
    """`reading` for async code."""

    async def __aenter__(self) -> AsyncSession:
        engine = _with(_chosen(self._of).async_reading_options_engine, self._options)
        session: AsyncSession = self._begun(_async_session(engine, ReadingSession))
        return session

    async def __aexit__(self, *_: object) -> None:
        await async_end(self._session)


async def async_end(session: AsyncSession) -> None:
    """`end` of an async session, which goes on if its task is cancelled."""
    unit: Any = session.sync_session
    if unit.get_transaction() is None:
        # Nothing is to be waited for.
        unit.end()
        return
    unit.has_ended = True
    await session.__aexit__(None, None, None)


@cache
def ending(session_class: type[S]) -> type[S]:
    """`session_class`, refusing to work once its unit of work has ended."""
    if issubclass(session_class, UnitSession):
        return session_class
    return type(session_class.__name__, (UnitSession, session_class), {})


def _async_session(engine: AsyncEngine, session_class: type[UnitSession]) -> AsyncSession:
    return AsyncSession(engine, sync_session_class=session_class, expire_on_commit=False)


def _chosen(of: Database | None) -> Database:
    chosen: Database = of or serving.get() or database()
    return chosen


def _with(engine: E, options: Options) -> E:
    # Even no options at all would make another engine, which costs as much as a query's own work.
    return engine.execution_options(**options) if options else engine


def _is_open(connection: Connection) -> bool:
    """True if a transaction, a stream or a COPY is under way on the connection."""
    if connection.closed or connection.invalidated:
        return False
    driver: Any = connection.connection.driver_connection
    return not driver.is_idle
