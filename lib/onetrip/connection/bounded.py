"""psycopg connections whose waits end with the deadline, even for a silent peer.

A driver's own timeouts do not end a wait for a peer that has gone without a word. Both connections
here end it by the clock and give up the socket, since an answer could still come and be taken for
that to the next question.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import psycopg
from psycopg import waiting
from psycopg.pq import TransactionStatus

from .. import forks, resolver
from ..attempt import note_commit
from ..deadlines import Deadline, current_deadline
from ..observability.request_stats import RequestStats, current_stats
from .driver_release import note_release
from .late_rollback import LateRollback
from .moment import CLOCK
from .protocol import Steps

R = TypeVar("R")

# The interval in which a wait checks the clock and signals; psycopg's own value.
_INTERVAL_SECONDS = 0.1
# Ends of a session that come before a COMMIT was looked at: limits on idling and on the whole transaction.
_BEFORE_COMMIT = frozenset({"25P03", "25P04"})


class _Bounded(LateRollback):
    """The part of both connections that does not wait."""

    # Set while something may be stored of which the answer is not there yet.
    unsettled = False
    used_at = 0.0
    closed: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        note_release()
        self.used_at = time.clock_gettime(CLOCK)
        forks.detach_in_children(self)

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Steps[Any]:
        return _until(current_deadline(), super()._connect_gen(conninfo))  # type: ignore[misc]  # psycopg's

    @property
    def idle_seconds(self) -> float:
        """Seconds since the server was last heard, those of a suspended machine included."""
        return time.clock_gettime(CLOCK) - self.used_at

    def heard(self) -> None:
        """Note that the server answered just now."""
        self.used_at = time.clock_gettime(CLOCK)

    def _settle(self) -> None:
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            self.unsettled = False
            note_commit()

    def _failed(self, error: BaseException, timeout: float | None) -> BaseException:
        """The error to raise; the connection is closed wherever an answer could still come."""
        unsettled, self.unsettled = self.unsettled, False
        if isinstance(error, asyncio.CancelledError) or self._is_in_flight:
            # psycopg would ask the server to cancel and wait up to ten seconds for both answers.
            self.pgconn.finish()
        if isinstance(error, psycopg.DatabaseError):
            error = self._ended(error, timeout)
        if not unsettled or not self.closed or getattr(error, "sqlstate", None) in _BEFORE_COMMIT:
            return error
        unknown = unknown_outcome(self.pgconn)
        if isinstance(error, psycopg.Error):
            return unknown
        error.__cause__ = unknown
        return error

    def _ended(self, error: psycopg.DatabaseError, timeout: float | None) -> psycopg.DatabaseError:
        """The error to raise instead if the deadline or the network ended the wait, not the server."""
        if error.sqlstate is not None:
            if error.diag.severity_nonlocalized == "FATAL":
                # Nothing follows it, though a pooler may be slow to close.
                self.pgconn.finish()
            return error
        deadline = current_deadline()
        if timeout is None and deadline is not None and deadline.is_over:
            self.pgconn.finish()
            return psycopg.errors.QueryCanceled("the deadline is over")
        if self.closed and type(error) in {psycopg.DatabaseError, psycopg.InternalError}:
            # The words of libpq and psycopg on a lost connection have no class of their own.
            return psycopg.OperationalError(str(error))
        return error

    @property
    def _is_in_flight(self) -> bool:
        """Return True if an unread answer is under way."""
        return self.is_piping and not getattr(self, "_pipeline", None)

    def _steps(self, steps: Steps[R], stats: RequestStats | None) -> Steps[R]:
        """The same steps behind what is still to be read, counted if they are a round trip."""
        # A pipeline is counted at its end, and what goes on (a stream, a COPY) was counted when it began.
        counts = stats and not self.is_piping and self.transaction_status != TransactionStatus.ACTIVE
        if self.owes_answer:
            steps = self.after_answer(steps)
        return _counted(steps, stats) if stats and counts else steps


class BoundedConnection(_Bounded, psycopg.Connection[Any]):
    """A sync connection whose waits end with the deadline of the code that waits."""

    @classmethod
    def connect(cls, conninfo: str = "", **arguments: Any) -> Self:
        """psycopg's, which would wait for a name server for as long as the system does."""
        with _resolving():
            arguments = resolver.resolved(arguments)
        return super().connect(conninfo, **arguments)

    def wait(self, gen: Steps[R], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> R:
        """Run `gen` to its end, or close the connection and raise `QueryCanceled` (57014)."""
        stats, begin = current_stats(), time.perf_counter()
        steps = self._steps(gen, stats)
        try:
            result = super().wait(steps, interval, _shorter(timeout))
        except BaseException as error:
            raised = self._failed(error, timeout)
            if raised is error:
                raise
            raise raised from None
        finally:
            if stats:
                stats.db_seconds += time.perf_counter() - begin
        if self.unsettled:
            self._settle()
        return result


class BoundedAsyncConnection(_Bounded, psycopg.AsyncConnection[Any]):
    """An async connection whose waits end with the deadline, and at once when cancelled."""

    @classmethod
    async def connect(cls, conninfo: str = "", **arguments: Any) -> Self:
        """psycopg's, which would wait for a name server for as long as the system does."""
        with _resolving():
            arguments = await resolver.async_resolved(arguments)
        return await super().connect(conninfo, **arguments)

    async def wait(
        self,
        gen: Steps[R],
        interval: float = _INTERVAL_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109  (psycopg's signature)
    ) -> R:
        """Run `gen` to its end, or close the connection and raise `QueryCanceled` (57014)."""
        stats, begin = current_stats(), time.perf_counter()
        steps = self._steps(gen, stats)
        try:
            result = await waiting.wait_async(steps, self.pgconn.socket, interval, _shorter(timeout))
        except BaseException as error:
            raised = self._failed(error, timeout)
            if raised is error:
                raise
            raise raised from None
        finally:
            if stats:
                stats.db_seconds += time.perf_counter() - begin
        if self.unsettled:
            self._settle()
        return result


def unknown_outcome(pgconn: psycopg.pq.abc.PGconn) -> psycopg.OperationalError:
    """The error for something stored or not on a connection lost since."""
    message = "the connection was lost before the answer to COMMIT"
    return psycopg.errors.TransactionResolutionUnknown(message, pgconn=pgconn)


@contextmanager
def _resolving() -> Iterator[None]:
    """Raise psycopg's errors for names that are not resolved."""
    try:
        yield
    except TimeoutError as error:
        raise psycopg.errors.ConnectionTimeout(str(error)) from None
    except OSError as error:
        raise psycopg.OperationalError(str(error)) from None


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


def _counted(steps: Steps[R], stats: RequestStats) -> Steps[R]:
    """The same steps, counted as a round trip if they wait for an answer."""
    ready, asked = None, False
    try:
        while True:
            awaited = steps.send(ready)
            if awaited == waiting.Wait.R and not asked:
                asked = True
                stats.round_trips += 1
            ready = yield awaited
    except StopIteration as end:
        result: R = end.value
        return result
