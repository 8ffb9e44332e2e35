"""The time of a request: until its answer, then anew for each part of a stream, and for work after it."""

from __future__ import annotations

import asyncio
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

    def __init__(self, settings: Settings, scope: Mapping[str, Any]) -> None:
        self._seconds = settings.request_timeout_seconds
        self._context = scope.get("aws.context")
        self._begin = time.monotonic()
        # Set once the request's deadline is known.
        self.until = Deadline(0)

    @property
    def seconds(self) -> float:
        """The seconds that an answer, or a part of a stream, may take from now on."""
        return self._within_platform(self._seconds)

    @property
    def rest_seconds(self) -> float:
        """The seconds that are left of the request's own time once its answer and tasks are done."""
        return self._within_platform(max(0.0, self._begin + self._seconds - time.monotonic()))

    def part_sent(self, *, is_last: bool) -> None:
        """Begin the time of the next part, or of the work after the answer."""
        self.until.renew(self._within_platform(AFTER_ANSWER_SECONDS) if is_last else self.seconds)

    def enforced(self, margin_seconds: float) -> Enforced:
        """Raise `DeadlineExceededError` in the block once the time and the margin are over."""
        return Enforced(self, margin_seconds)

    def _within_platform(self, seconds: float) -> float:
        told = seconds_left(self._context)
        return seconds if told is None else max(0.0, min(seconds, told - ANSWER_RESERVE_SECONDS))


class Enforced:
    """A block that is cancelled once the time is over; the timer looks then whether the time was renewed."""

    __slots__ = ("_cancelling", "_expired", "_limit", "_margin_seconds", "_task", "_timer")

    def __init__(self, limit: TimeLimit, margin_seconds: float) -> None:
        self._limit = limit
        self._margin_seconds = margin_seconds
        self._expired = False

    async def __aenter__(self) -> None:
        self._task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # a request has one
        self._cancelling = self._task.cancelling()
        self._begin(self._seconds_left)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._expired:
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
    def _seconds_left(self) -> float:
        return self._limit.until.at - time.monotonic() + self._margin_seconds

    def _begin(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        seconds = self._seconds_left
        if seconds > _CLOCKS_DIFFER_SECONDS:
            self._begin(seconds)
        else:
            self._expired = True
            self._task.cancel()


def _tells(error: BaseException | None) -> bool:
    fault = classify(error) if error else None
    return fault is not None and fault.kind is not Kind.INTERNAL
