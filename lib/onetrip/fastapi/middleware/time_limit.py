"""The time of a request: until its answer, then anew for each part of a stream, and for work after it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ...deadlines import Deadline
from ...errors import DeadlineExceededError
from ...platform import seconds_left
from ...settings.settings import Settings
from ...sqlstate import Kind, classify

# Kept of the platform's time for sending the answer.
ANSWER_RESERVE_SECONDS = 0.5
# The time for work after the answer where the platform tells none: the longest that Lambda allows.
AFTER_ANSWER_SECONDS = 900.0
# Everything else is ended this much later than the database's waits, so that they end first: theirs
# is the better answer, and a connection that ended its wait by itself can be closed in peace.
BACKSTOP_SECONDS = 0.25
# A timer of the loop may be this early by another clock.
_CLOCKS_DIFFER_SECONDS = 0.002


class TimeLimit:
    """Ends what the database's own waits do not: a slow call elsewhere, a wait for the client."""

    __slots__ = ("_begin", "_platform_end", "_seconds", "_timer", "until")

    def __init__(self, settings: Settings, scope: Mapping[str, Any], timer: LoopTimer) -> None:
        self._timer = timer
        self._seconds = settings.request_timeout_seconds
        self._begin = now = time.monotonic()
        told = seconds_left(scope.get("aws.context"))
        self._platform_end = math.inf if told is None else now + told - ANSWER_RESERVE_SECONDS
        # The moment by which the answer, or the next part of a stream, must be sent.
        self.until = Deadline(self._from_now(self._seconds))

    @property
    def rest_seconds(self) -> float:
        """The seconds that are left of the request's own time once its answer and tasks are done."""
        return max(0.0, min(self._begin + self._seconds, self._platform_end) - time.monotonic())

    def part_sent(self, *, is_last: bool) -> None:
        """Begin the time of the next part, or of the work after the answer."""
        self.until.at = self._from_now(AFTER_ANSWER_SECONDS if is_last else self._seconds)

    def enforced(self, margin_seconds: float) -> Enforced:
        """Raise `DeadlineExceededError` in the block once the time and the margin are over."""
        return Enforced(self.until, margin_seconds, self._timer)

    def _from_now(self, seconds: float) -> float:
        now = time.monotonic()
        return max(now, min(now + seconds, self._platform_end))


class Enforced:
    """A block that is cancelled once its time is over, which may be renewed meanwhile."""

    __slots__ = ("_cancelling", "_expired", "_margin_seconds", "_task", "_timer", "_until")

    def __init__(self, until: Deadline, margin_seconds: float, timer: LoopTimer) -> None:
        self._until = until
        self._timer = timer
        self._margin_seconds = margin_seconds
        self._expired = False

    def __enter__(self) -> None:
        self._task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # a request has one
        self._cancelling = self._task.cancelling()
        self._timer.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._expired:
            self._timer.remove(self)
            return
        others = self._task.uncancel() > self._cancelling
        is_ours = isinstance(error, asyncio.CancelledError) and not others
        if is_ours and _tells(error):
            # A COMMIT that was cut off: its outcome is what the client has to know.
            raise TimeoutError from error
        # The error of a route that was cut off is of no interest, unless the database caused it.
        if is_ours or (isinstance(error, Exception) and not _tells(error)):
            raise DeadlineExceededError("the request's deadline is over") from error

    @property
    def end(self) -> float:
        """The moment, on the monotonic clock, at which it is cancelled as things stand."""
        return self._until.at + self._margin_seconds

    def expire(self) -> None:
        """Cancel it."""
        self._expired = True
        self._task.cancel()


class LoopTimer:
    """The one timer of an event loop for all blocks: one for each would cost as much as a middleware.

    It is set for the first end that it knows of, and looks then which blocks are late. Most have ended by
    then, or had their time renewed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._blocks: set[Enforced] = set()
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def add(self, block: Enforced) -> None:
        """Watch a block from now on."""
        self._blocks.add(block)
        if (end := block.end) < self._at:
            self._set(end)

    def remove(self, block: Enforced) -> None:
        """Forget a block that has ended by itself."""
        self._blocks.discard(block)

    def _set(self, at: float) -> None:
        if self._handle:
            self._handle.cancel()
        self._at = at
        self._handle = self.loop.call_later(max(0.0, at - time.monotonic()), self._look)

    def _look(self) -> None:
        self._at, self._handle = math.inf, None
        late = time.monotonic() + _CLOCKS_DIFFER_SECONDS
        for block in [block for block in self._blocks if block.end <= late]:
            self._blocks.remove(block)
            block.expire()
        if self._blocks:
            self._set(min(block.end for block in self._blocks))


def _tells(error: BaseException | None) -> bool:
    fault = classify(error) if error else None
    return fault is not None and fault.kind is not Kind.INTERNAL
