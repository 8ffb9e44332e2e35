"""Cursors whose first statement takes along what their connection noted, and the last one the COMMIT."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from ..attempt import note_commit
from ..observability.request_stats import any_tally
from .bounded import unknown_outcome
from .preamble import Statement

if TYPE_CHECKING:
    from .single_flight import FlightAsyncConnection, FlightConnection

COMMIT = b"COMMIT"


@contextmanager
def _in_flight(
    connection: FlightConnection | FlightAsyncConnection,
) -> Iterator[tuple[list[Statement], bool]]:
    """What goes with the statement that the block sends, and whether a COMMIT follows it."""
    flight = connection.flight
    writes, commits = flight.writes_by_itself, flight.commits
    lost_before = connection.closed
    flight.commits = False
    companions = flight.companions(connection.info.transaction_status)
    # Whether or not it succeeds: what a failed COMMIT undid must not be followed by half a unit.
    flight.ended = flight.ended or commits
    try:
        yield companions, commits
    except psycopg.OperationalError as error:
        lost = writes and connection.closed and not lost_before
        raise unknown_outcome(connection) if lost else error from None
    if writes:
        note_commit()


class FlightCursor(psycopg.Cursor[Any]):
    """A cursor whose statement takes along what its connection noted."""

    connection: FlightConnection

    def execute(self, query: Any, params: Any = None, **options: Any) -> FlightCursor:
        """Send `query` with its companions in one flight."""
        with _in_flight(self.connection) as (companions, commits):
            if not companions and not commits:
                return super().execute(query, params, **options)
            with self.connection.pipeline(boarding=True):
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
        # Declared, it is asked for its columns.
        any_tally().round_trips += 1
        return super().execute(query, params, **options)


class FlightAsyncCursor(psycopg.AsyncCursor[Any]):
    """`FlightCursor` for async connections."""

    connection: FlightAsyncConnection

    async def execute(self, query: Any, params: Any = None, **options: Any) -> FlightAsyncCursor:
        """Send `query` with its companions in one flight."""
        with _in_flight(self.connection) as (companions, commits):
            if not companions and not commits:
                return await super().execute(query, params, **options)
            async with self.connection.pipeline(boarding=True):
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
        any_tally().round_trips += 1
        return await super().execute(query, params, **options)
