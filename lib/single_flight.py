"""BEGIN, settings and statement in one network flight.

A plain driver sends BEGIN and waits, sends the settings and waits, sends the statement and waits.
Here the first two are only noted, and the next statement takes them along: all three leave in one
libpq pipeline with one Sync, and their answers come back together. A connection that reads in
autocommit sends no BEGIN at all: what stands before one Sync is one implicit transaction, so
settings made with `set_config(..., is_local => true)` hold for exactly that statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from lib.connection import BoundedAsyncConnection, BoundedConnection, unknown_outcome
from lib.deadline import current_deadline

if TYPE_CHECKING:
    # A process that connects while it imports has no time for SQLAlchemy yet.
    from sqlalchemy.engine.interfaces import IsolationLevel

COMMIT = b"COMMIT"
LOCK_TIMEOUT_SHARE = 0.5
IDLE_IN_TRANSACTION_SECONDS = 30.0
Statement = tuple[str, list[str]]


@dataclass(slots=True)
class Flight:
    """What leaves with the next statement of one connection."""

    isolation_level: IsolationLevel | None = None
    read_only: bool = False
    deferrable: bool = False
    autocommit: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    # Within SQLAlchemy's transaction, a statement that finds none on the server begins it.
    begins: bool = False
    commits: bool = False
    # The COMMIT went along with a statement; what follows in the same unit of work can only read.
    ended: bool = False
    alone: bool = False

    def opened(self) -> None:
        """Note that SQLAlchemy's transaction begins."""
        self.begins, self.ended = True, False

    def closed(self) -> None:
        """Note that SQLAlchemy's transaction is over."""
        self.begins = self.ended = False

    def companions(self, status: TransactionStatus) -> list[Statement]:
        """What the next statement takes along: nothing, unless it is the first outside a transaction."""
        if self.alone or status != TransactionStatus.IDLE:
            return []
        if self.autocommit or self.ended:
            return [self._settings()]
        return [(self._begin(), []), self._settings()] if self.begins else []

    def advance(self, status: TransactionStatus) -> list[Statement]:
        """What is sent ahead of a statement that cannot share a flight (COPY, a server-side cursor).

        Settings made ahead need a transaction to hold in, so a reading session gets one too.
        """
        if self._only_reads and status == TransactionStatus.IDLE:
            return [(self._begin(), []), self._settings()]
        return [] if self.autocommit else self.companions(status)

    @property
    def writes_by_itself(self) -> bool:
        """Whether the next statement commits what it does, so that a lost answer leaves it unknown."""
        return self.commits or (self.autocommit and not self.read_only)

    @property
    def _only_reads(self) -> bool:
        return self.ended or (self.autocommit and self.read_only)

    def _begin(self) -> str:
        level = f" ISOLATION LEVEL {self.isolation_level}" if self.isolation_level else ""
        access = " READ ONLY" if self.read_only or self.ended else ""
        return f"BEGIN{level}{access}{' DEFERRABLE' if self.deferrable else ''}"

    def _settings(self) -> Statement:
        settings = {**timeouts(), **self.settings}
        if self._only_reads:
            settings["transaction_read_only"] = "on"
        return settings_statement(settings)


def timeouts() -> dict[str, str]:
    """The server's own limits, in milliseconds, for a transaction that begins now.

    Waiting for a lock may take half of what is left; a client that is frozen inside a transaction
    must not hold its locks and its server connection for longer than the idle limit.
    """
    deadline = current_deadline()
    idle_ms = int(IDLE_IN_TRANSACTION_SECONDS * 1000)
    if deadline is None:
        return {"idle_in_transaction_session_timeout": str(idle_ms)}
    statement_ms = deadline.statement_timeout_ms()
    return {
        "statement_timeout": str(statement_ms),
        "lock_timeout": str(max(1, int(statement_ms * LOCK_TIMEOUT_SHARE))),
        "idle_in_transaction_session_timeout": str(min(idle_ms, max(1000, statement_ms))),
    }


@contextmanager
def _in_flight(
    connection: FlightConnection | FlightAsyncConnection,
) -> Iterator[tuple[list[Statement], bool]]:
    """What goes with the statement that the block sends, and whether a COMMIT follows it."""
    flight = connection.flight
    writes, commits = flight.writes_by_itself, flight.commits
    lost_before = connection.closed
    flight.commits = False
    try:
        yield flight.companions(connection.info.transaction_status), commits
        flight.ended = flight.ended or commits
    except psycopg.OperationalError as error:
        lost = writes and connection.closed and not lost_before
        raise unknown_outcome(connection) if lost else error from None


def settings_statement(settings: Mapping[str, str]) -> Statement:
    """The one statement that sets run-time parameters until the transaction ends."""
    calls = ", ".join(["set_config(%s, %s, true)"] * len(settings))
    return f"SELECT {calls}", [text for pair in settings.items() for text in pair]


class _Unflushed:
    """A pipeline that ends with its Sync, where psycopg's sends a Flush after it.

    The Sync brings every answer. A Flush that comes to a pooler later than they did is given a
    server connection, and since nothing answers it, nothing takes that connection back.
    """

    def _exit_gen(self: Any) -> Generator[Any, Any, None]:
        try:
            self._enqueue_sync()
            yield from self._communicate_gen()
        finally:
            yield from self._fetch_gen(flush=False)


class _Pipeline(_Unflushed, psycopg.Pipeline):
    """For sync connections."""


class _AsyncPipeline(_Unflushed, psycopg.AsyncPipeline):
    """For async connections."""


class FlightCursor(psycopg.Cursor[Any]):
    """A cursor whose statement takes along what its connection noted."""

    connection: FlightConnection

    def execute(self, query: Any, params: Any = None, **options: Any) -> FlightCursor:
        """Send `query` with its companions in one flight."""
        with _in_flight(self.connection) as (companions, commits):
            if not companions and not commits:
                return super().execute(query, params, **options)
            with self.connection.pipeline():
                for text, values in companions:
                    psycopg.Cursor(self.connection).execute(text.encode(), values)
                super().execute(query, params, **options)
                if commits:
                    psycopg.Cursor(self.connection).execute(COMMIT)
        return self

    def executemany(self, query: Any, params_seq: Iterable[Any], *, returning: bool = False) -> None:
        """Send the statement for each of the rows, and its companions, in one flight."""
        with _in_flight(self.connection) as (companions, _), self.connection.pipeline():
            for text, values in companions:
                psycopg.Cursor(self.connection).execute(text.encode(), values)
            super().executemany(query, params_seq, returning=returning)

    def stream(self, query: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        """Send the companions, then stream; a pipeline takes no streaming."""
        self.connection.depart()
        return super().stream(query, params, **options)

    def copy(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Send the companions, then copy; a pipeline takes no COPY."""
        self.connection.depart()
        return super().copy(statement, params, **options)


class FlightServerCursor(psycopg.ServerCursor[Any]):
    """A server-side cursor, declared in the transaction that its connection noted."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> FlightServerCursor:
        """Send the companions, then declare the cursor."""
        self.connection.depart()  # type: ignore[attr-defined]  # a FlightConnection's cursor
        return super().execute(query, params, **options)


class FlightConnection(BoundedConnection):
    """A connection that begins its transactions with the first statement."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.flight = Flight()
        self.cursor_factory = FlightCursor
        self.server_cursor_factory = FlightServerCursor

    def depart(self) -> None:
        """Send what is noted by itself, for statements that cannot share a flight."""
        companions = self.flight.advance(self.info.transaction_status)
        if companions:
            with self.pipeline():
                for text, values in companions:
                    psycopg.Cursor(self).execute(text.encode(), values)

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Switch to pipeline mode for the block."""
        self._pipeline = self._pipeline or _Pipeline(self)
        with super().pipeline() as pipeline:
            yield pipeline

    @contextmanager
    def transaction(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        """Set a savepoint for the block; its transaction is SQLAlchemy's, which may not have begun yet."""
        self.depart()
        with super().transaction(*arguments, **options) as transaction:
            yield transaction


class FlightAsyncCursor(psycopg.AsyncCursor[Any]):
    """`FlightCursor` for async connections."""

    connection: FlightAsyncConnection

    async def execute(self, query: Any, params: Any = None, **options: Any) -> FlightAsyncCursor:
        """Send `query` with its companions in one flight."""
        with _in_flight(self.connection) as (companions, commits):
            if not companions and not commits:
                return await super().execute(query, params, **options)
            async with self.connection.pipeline():
                for text, values in companions:
                    await psycopg.AsyncCursor(self.connection).execute(text.encode(), values)
                await super().execute(query, params, **options)
                if commits:
                    await psycopg.AsyncCursor(self.connection).execute(COMMIT)
        return self

    async def executemany(self, query: Any, params_seq: Iterable[Any], *, returning: bool = False) -> None:
        """Send the statement for each of the rows, and its companions, in one flight."""
        with _in_flight(self.connection) as (companions, _):
            async with self.connection.pipeline():
                for text, values in companions:
                    await psycopg.AsyncCursor(self.connection).execute(text.encode(), values)
                await super().executemany(query, params_seq, returning=returning)

    async def stream(self, query: Any, params: Any = None, **options: Any) -> AsyncIterator[Any]:
        """Send the companions, then stream; a pipeline takes no streaming."""
        await self.connection.depart()
        async for row in super().stream(query, params, **options):
            yield row

    @asynccontextmanager
    async def copy(self, statement: Any, params: Any = None, **options: Any) -> AsyncIterator[Any]:
        """Send the companions, then copy; a pipeline takes no COPY."""
        await self.connection.depart()
        async with super().copy(statement, params, **options) as copy:
            yield copy


class FlightAsyncServerCursor(psycopg.AsyncServerCursor[Any]):
    """`FlightServerCursor` for async connections."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> FlightAsyncServerCursor:
        """Send the companions, then declare the cursor."""
        await self.connection.depart()  # type: ignore[attr-defined]  # a FlightAsyncConnection's cursor
        return await super().execute(query, params, **options)


class FlightAsyncConnection(BoundedAsyncConnection):
    """`FlightConnection` for async code."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.flight = Flight()
        self.cursor_factory = FlightAsyncCursor
        self.server_cursor_factory = FlightAsyncServerCursor

    async def depart(self) -> None:
        """Send what is noted by itself, for statements that cannot share a flight."""
        companions = self.flight.advance(self.info.transaction_status)
        if companions:
            async with self.pipeline():
                for text, values in companions:
                    await psycopg.AsyncCursor(self).execute(text.encode(), values)

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        """Switch to pipeline mode for the block."""
        self._pipeline = self._pipeline or _AsyncPipeline(self)
        async with super().pipeline() as pipeline:
            yield pipeline

    @asynccontextmanager
    async def transaction(self, *arguments: Any, **options: Any) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Set a savepoint for the block; its transaction is SQLAlchemy's, which may not have begun yet."""
        await self.depart()
        async with super().transaction(*arguments, **options) as transaction:
            yield transaction
