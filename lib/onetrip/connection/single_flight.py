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

from typing import Any

from .cursor import FlightAsyncCursor, FlightAsyncServerCursor, FlightCursor, FlightServerCursor
from .flights import Flights
from .pipeline import PipelineAsyncConnection, PipelineConnection


class FlightConnection(Flights, PipelineConnection):
    """A connection that begins its transactions with the first statement."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = FlightCursor
        self.server_cursor_factory = FlightServerCursor

    def rollback(self) -> None:
        """Roll back, unless nothing has begun: then nothing is asked."""
        if not self.is_idle:
            super().rollback()


class FlightAsyncConnection(Flights, PipelineAsyncConnection):
    """`FlightConnection` for async code."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = FlightAsyncCursor
        self.server_cursor_factory = FlightAsyncServerCursor

    async def rollback(self) -> None:
        """Roll back, unless nothing has begun: then nothing is asked."""
        if not self.is_idle:
            await super().rollback()


class SteppedConnection(FlightConnection):
    """`DATABASE_SINGLE_FLIGHT=off`: the same messages, with a wait after each."""

    single_flight = False


class SteppedAsyncConnection(FlightAsyncConnection):
    """`SteppedConnection` for async code."""

    single_flight = False
