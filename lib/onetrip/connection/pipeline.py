"""psycopg's pipelines, made safe behind a pooler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.generators import send

from ..observability.request_stats import note_round_trips
from .bounded import BoundedAsyncConnection, BoundedConnection
from .protocol import Steps


class _Unflushed:
    """A pipeline that ends with its Sync, where psycopg's sends a Flush after it.

    The Sync brings every answer. A Flush that comes to a pooler later than they did is given a
    server connection, and since nothing answers it, nothing takes that connection back.
    """

    def _sync_gen(self: Any) -> Steps[None]:
        """Return once the Sync is answered, after an error too: it tells the state of the transaction."""
        self._enqueue_sync()
        try:
            yield from self._communicate_gen()
        except psycopg.Error:
            # The first error is the reason; what was skipped for it says "pipeline aborted" and no more.
            with suppress(psycopg.Error):
                yield from self._rest_gen()
            raise
        yield from self._rest_gen()

    _exit_gen = _sync_gen

    def _rest_gen(self: Any) -> Steps[None]:
        yield from send(self.pgconn)
        yield from self._fetch_gen(flush=False)


class UnflushedPipeline(_Unflushed, psycopg.Pipeline):
    """For sync connections."""


class UnflushedAsyncPipeline(_Unflushed, psycopg.AsyncPipeline):
    """For async connections."""


class PipelineConnection(BoundedConnection):
    """A sync connection whose pipelines end with their Sync."""

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """A pipeline; an error that it cannot be left after ends the connection."""
        self._pipeline = self._pipeline or UnflushedPipeline(self)
        with _left_or_ended(self), super().pipeline() as pipeline:
            yield pipeline

    @contextmanager
    def _pipeline_nolock(self) -> Iterator[psycopg.Pipeline]:
        """`pipeline` for `executemany`, which holds the lock."""
        pipeline = self._pipeline = UnflushedPipeline(self, _no_lock=True)
        try:
            with _left_or_ended(self), pipeline, _whole(self):
                yield pipeline
        finally:
            self._pipeline = None


class PipelineAsyncConnection(BoundedAsyncConnection):
    """An async connection whose pipelines end with their Sync."""

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        """A pipeline; an error that it cannot be left after ends the connection."""
        self._pipeline = self._pipeline or UnflushedAsyncPipeline(self)
        with _left_or_ended(self):
            async with super().pipeline() as pipeline:
                yield pipeline

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        """`pipeline` for `executemany`, which holds the lock."""
        pipeline = self._pipeline = UnflushedAsyncPipeline(self, _no_lock=True)
        try:
            with _left_or_ended(self):
                async with pipeline:
                    with _whole(self):
                        yield pipeline
        finally:
            self._pipeline = None


@contextmanager
def _left_or_ended(connection: BoundedConnection | BoundedAsyncConnection) -> Iterator[None]:
    within_another = connection.is_piping
    if not within_another:
        # Its statements are sent together, at its end.
        note_round_trips()
    try:
        yield
    except psycopg.Error:
        # A server that died in the midst of it still owes answers, which nothing could tell from others.
        if not within_another and connection.is_piping:
            connection.pgconn.finish()
        raise


@contextmanager
def _whole(connection: BoundedConnection | BoundedAsyncConnection) -> Iterator[None]:
    """In autocommit rows are stored together: where one cannot be sent, no Sync follows those before it."""
    try:
        yield
    except Exception as error:
        if connection.autocommit and getattr(error, "sqlstate", None) is None:
            connection.pgconn.finish()
        raise
