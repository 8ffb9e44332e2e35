"""BEGIN, settings and statement in one network flight.

A plain driver sends BEGIN and waits, sends the settings and waits, sends the statement and waits.
Here the first two are only noted, and the next statement takes them along: all three leave in one
libpq pipeline with one Sync, and their answers come back together. A connection that reads in
autocommit sends no BEGIN at all: what stands before one Sync is one implicit transaction, so
settings made with `set_config(..., is_local => true)` hold for exactly that statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from .bounded import BoundedAsyncConnection, BoundedConnection
from .cursor import FlightAsyncCursor, FlightAsyncServerCursor, FlightCursor, FlightServerCursor
from .pipeline import UnflushedAsyncPipeline, UnflushedPipeline, at_once
from .preamble import Flight


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

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Run `gen` to its end; while a flight boards, that is at once."""
        if getattr(self._pipeline, "boarding", False):
            return at_once(gen)
        return super().wait(gen, *arguments, **options)

    def rollback(self) -> None:
        """Roll back, unless nothing has begun: there is nobody to be asked then."""
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            super().rollback()

    @contextmanager
    def pipeline(self, *, boarding: bool = False) -> Iterator[UnflushedPipeline]:
        """Switch to pipeline mode for the block; with `boarding`, all leaves at its end."""
        pipeline = self._pipeline = self._pipeline or UnflushedPipeline(self, boarding=boarding)
        with super().pipeline():
            yield pipeline  # type: ignore[misc]  # the one above, or one of the same kind

    @contextmanager
    def transaction(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        """Set a savepoint for the block; its transaction is SQLAlchemy's, which may not have begun yet."""
        self.depart()
        with super().transaction(*arguments, **options) as transaction:
            yield transaction


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

    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Run `gen` to its end; while a flight boards, that is at once."""
        if getattr(self._pipeline, "boarding", False):
            return at_once(gen)
        return await super().wait(gen, *arguments, **options)

    async def rollback(self) -> None:
        """Roll back, unless nothing has begun: there is nobody to be asked then."""
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            await super().rollback()

    @asynccontextmanager
    async def pipeline(self, *, boarding: bool = False) -> AsyncIterator[UnflushedAsyncPipeline]:
        """Switch to pipeline mode for the block; with `boarding`, all leaves at its end."""
        pipeline = self._pipeline = self._pipeline or UnflushedAsyncPipeline(self, boarding=boarding)
        async with super().pipeline():
            yield pipeline  # type: ignore[misc]  # the one above, or one of the same kind

    @asynccontextmanager
    async def transaction(self, *arguments: Any, **options: Any) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Set a savepoint for the block; its transaction is SQLAlchemy's, which may not have begun yet."""
        await self.depart()
        async with super().transaction(*arguments, **options) as transaction:
            yield transaction
