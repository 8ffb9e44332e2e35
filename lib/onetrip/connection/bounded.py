"""psycopg connections on which nothing waits longer than the deadline, even for a silent peer.

A driver's own timeouts do not end a wait for a peer that has gone without a word. Both connections
here end it by the clock and give up the socket, since an answer could still come and be taken for
that to the next question.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import waiting
from psycopg.pq import PipelineStatus, TransactionStatus

from ..deadlines import Deadline, current_deadline
from ..observability.request_stats import Tally, current_tally

R = TypeVar("R")
Steps = Generator[Any, Any, R]

# How often a wait looks at the clock and at signals; psycopg's own value.
_INTERVAL_SECONDS = 0.1


class BoundedConnection(psycopg.Connection[Any]):
    """A sync connection whose waits end with the deadline of the code that waits."""

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Steps[BoundedConnection]:
        return _until(current_deadline(), super()._connect_gen(conninfo))

    def wait(self, gen: Steps[R], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> R:
        """Run `gen` to its end, or close the connection and raise `QueryCanceled` (57014)."""
        try:
            with _noted(self, gen) as steps:
                return super().wait(steps, interval, _shorter(timeout))
        except psycopg.DatabaseError as error:
            raise _given_up(self, error, timeout) or error from None

    def _get_tx_start_command(self) -> bytes:
        _note_round_trip()
        return super()._get_tx_start_command()

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """A pipeline; an error that it cannot be left after ends the connection."""
        with _left_or_ended(self), super().pipeline() as pipeline:
            yield pipeline

    def commit(self) -> None:
        """Commit, or raise `TransactionResolutionUnknown` (08007) if the answer was lost."""
        _in_time(self)
        lost_before = self.closed
        try:
            super().commit()
        except psycopg.OperationalError as error:
            raise unknown_outcome(self) if self.closed and not lost_before else error from None


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """An async connection whose waits end with the deadline, and at once when cancelled."""

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Steps[BoundedAsyncConnection]:
        return _until(current_deadline(), super()._connect_gen(conninfo))

    async def wait(
        self,
        gen: Steps[R],
        interval: float = _INTERVAL_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109  (psycopg's signature)
    ) -> R:
        """Run `gen` to its end, or close the connection and raise `QueryCanceled` (57014)."""
        try:
            with _noted(self, gen) as steps:
                return await waiting.wait_async(steps, self.pgconn.socket, interval, _shorter(timeout))
        except psycopg.DatabaseError as error:
            raise _given_up(self, error, timeout) or error from None
        except asyncio.CancelledError:
            # psycopg would ask the server to cancel and wait up to ten seconds for both answers.
            self.pgconn.finish()
            raise

    def _get_tx_start_command(self) -> bytes:
        _note_round_trip()
        return super()._get_tx_start_command()

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        """A pipeline; an error that it cannot be left after ends the connection."""
        with _left_or_ended(self):
            async with super().pipeline() as pipeline:
                yield pipeline

    async def commit(self) -> None:
        """Commit, or raise `TransactionResolutionUnknown` (08007) if the answer was lost."""
        _in_time(self)
        lost_before = self.closed
        try:
            await super().commit()
        except psycopg.OperationalError as error:
            raise unknown_outcome(self) if self.closed and not lost_before else error from None
        except asyncio.CancelledError as cancelled:
            # Whoever asks why is told what was left behind.
            raise cancelled from unknown_outcome(self) if self.closed and not lost_before else None


def unknown_outcome(connection: BoundedConnection | BoundedAsyncConnection) -> psycopg.OperationalError:
    """The error for a COMMIT that was sent on a connection lost since."""
    message = "the connection was lost before the answer to COMMIT"
    return psycopg.errors.TransactionResolutionUnknown(message, pgconn=connection.pgconn)


@contextmanager
def _left_or_ended(connection: BoundedConnection | BoundedAsyncConnection) -> Iterator[None]:
    within_another = connection.pgconn.pipeline_status != PipelineStatus.OFF
    if not within_another:
        # What it collects leaves as one flight, at its end.
        _note_round_trip()
    try:
        yield
    except psycopg.Error:
        # A server that died in the midst of it still owes answers, which nobody could tell from others.
        if not within_another and connection.pgconn.pipeline_status != PipelineStatus.OFF:
            connection.pgconn.finish()
        raise


@contextmanager
def _noted(connection: BoundedConnection | BoundedAsyncConnection, steps: Steps[R]) -> Iterator[Steps[R]]:
    """The same steps, their round trips and time noted in the tally of whoever waits."""
    tally = current_tally()
    if tally is None:
        yield steps
        return
    pgconn, begin = connection.pgconn, time.perf_counter()
    # A pipeline notes its own flight, and what goes on (a stream, a COPY) was noted when it began.
    goes_on = pgconn.pipeline_status or pgconn.transaction_status == TransactionStatus.ACTIVE
    try:
        yield steps if goes_on else _round_trip(steps, tally)
    finally:
        tally.db_seconds += time.perf_counter() - begin


def _note_round_trip() -> None:
    if tally := current_tally():
        tally.round_trips += 1


def _round_trip(steps: Steps[R], tally: Tally) -> Steps[R]:
    """The same steps, noted as a round trip if they wait for an answer."""
    ready, asked = None, False
    try:
        while True:
            awaited = steps.send(ready)
            if awaited == waiting.Wait.R and not asked:
                asked = True
                tally.round_trips += 1
            ready = yield awaited
    except StopIteration as end:
        result: R = end.value
        return result


def _in_time(connection: BoundedConnection | BoundedAsyncConnection) -> None:
    """Refuse a COMMIT that is too late: as long as it was not sent, it is known that nothing was stored."""
    deadline = current_deadline()
    if deadline and deadline.is_over and connection.info.transaction_status == TransactionStatus.INTRANS:
        raise psycopg.errors.QueryCanceled("the deadline is over")


def _until(deadline: Deadline | None, steps: Steps[R]) -> Steps[R]:
    """The same steps of connecting, ended with `ConnectionTimeout` once the deadline is over."""
    try:
        awaited = next(steps)
        while True:
            ready = yield awaited
            if deadline and deadline.is_over:
                raise psycopg.errors.ConnectionTimeout("the deadline is over")
            awaited = steps.send(ready)
    except StopIteration as end:
        result: R = end.value
        return result


def _shorter(timeout: float | None) -> float | None:
    deadline = current_deadline()
    if deadline is None:
        return timeout
    return deadline.seconds_left if timeout is None else min(timeout, deadline.seconds_left)


def _given_up(
    connection: BoundedConnection | BoundedAsyncConnection,
    error: psycopg.DatabaseError,
    timeout: float | None,
) -> psycopg.OperationalError | None:
    """The error to raise instead if the deadline or the network ended the wait, not the server."""
    if error.sqlstate is not None:
        if error.diag.severity_nonlocalized == "FATAL":
            # Nothing follows it, though a pooler may be slow to hang up.
            connection.pgconn.finish()
        return None
    deadline = current_deadline()
    if timeout is not None or deadline is None or not deadline.is_over:
        # What libpq itself says of a lost connection has no class of its own.
        return psycopg.OperationalError(str(error)) if connection.closed else None
    connection.pgconn.finish()
    return psycopg.errors.QueryCanceled("the deadline is over")
