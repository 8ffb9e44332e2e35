"""BEGIN, settings and statement in one network round trip: a single flight.

A plain driver sends BEGIN and waits, sends the settings and waits, sends the statement and waits.
Here the first two are only noted, and the next statement takes them along: all three leave in one
libpq pipeline with one Sync, and their answers come back together. A connection that reads in
autocommit sends no BEGIN at all: all that stands before one Sync is one implicit transaction, so
settings made with `set_config(..., is_local => true)` hold for exactly that statement.

The preamble belongs to the connection: psycopg asks it before each query of each cursor. Only our own
cursors can send it with their statement; before others' (and before COPY, streams and server-side
cursors) it is sent by itself. Apart from that the connection keeps psycopg's contract: it begins with the
first statement, and `commit`, `rollback`, `transaction` and two-phase commit mean what they always mean.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from ..deadlines import deadline
from .cursor import FlightAsyncCursor, FlightAsyncServerCursor, FlightCursor, FlightServerCursor, asked_alone
from .flights import Flights
from .pipeline import PipelineAsyncConnection, PipelineConnection
from .protocol import PATIENCE_SECONDS

# The answer to a late ROLLBACK comes with theirs.
_TAKING_ALONG = frozenset(
    {FlightCursor._execute_gen.__code__, Flights.send_batch.__code__, asked_alone.__code__}  # noqa: SLF001  (psycopg's name)
)


class FlightConnection(Flights, PipelineConnection):
    """A connection that begins its transactions with the first statement."""

    taking_along = _TAKING_ALONG

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = FlightCursor
        self.server_cursor_factory = FlightServerCursor

    def rollback(self) -> None:
        """Roll back, unless nothing has begun: then nothing is asked."""
        if not self.is_idle:
            super().rollback()

    def settle(self) -> None:
        """Read the answer to a late ROLLBACK."""
        if self.owes_answer:
            self.wait(self.answered())

    def close(self) -> None:
        """Close the connection, after a late ROLLBACK: within a transaction a pooler would close its own."""
        with suppress(psycopg.Error), deadline(PATIENCE_SECONDS):
            self.settle()
        super().close()


class FlightAsyncConnection(Flights, PipelineAsyncConnection):
    """`FlightConnection` for async code."""

    taking_along = _TAKING_ALONG

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = FlightAsyncCursor
        self.server_cursor_factory = FlightAsyncServerCursor

    async def rollback(self) -> None:
        """Roll back, unless nothing has begun: then nothing is asked."""
        if not self.is_idle:
            await super().rollback()

    async def settle(self) -> None:
        """Read the answer to a late ROLLBACK."""
        if self.owes_answer:
            await self.wait(self.answered())

    async def close(self) -> None:
        """Close the connection, after a late ROLLBACK: within a transaction a pooler would close its own."""
        with suppress(psycopg.Error), deadline(PATIENCE_SECONDS):
            await self.settle()
        await super().close()


class SteppedConnection(FlightConnection):
    """`DATABASE_SINGLE_FLIGHT=off`: the same messages, with a wait after each."""

    single_flight = False


class SteppedAsyncConnection(FlightAsyncConnection):
    """`SteppedConnection` for async code."""

    single_flight = False
