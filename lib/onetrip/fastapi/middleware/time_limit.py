"""The time of a request: until its answer, then anew for each part of a stream, and for work after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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


class TimeLimit:
    """Ends what the database's own waits do not: a slow call elsewhere, a wait for the client."""

    def __init__(self, settings: Settings, scope: Mapping[str, Any]) -> None:
        self._seconds = settings.request_timeout_seconds
        self._context = scope.get("aws.context")
        self._enforced: list[tuple[asyncio.Timeout, float]] = []
        # Set once the request's deadline is known.
        self.until = Deadline(0)

    @property
    def seconds(self) -> float:
        """The seconds that an answer, or a part of a stream, may take from now on."""
        return self._within_platform(self._seconds)

    def part_sent(self, *, is_last: bool) -> None:
        """Begin the time of the next part, or of the work after the answer."""
        seconds = self._within_platform(AFTER_ANSWER_SECONDS) if is_last else self.seconds
        self.until.renew(seconds)
        now = asyncio.get_running_loop().time()
        for limit, margin in self._enforced:
            if not limit.expired():
                limit.reschedule(now + seconds + margin)

    @asynccontextmanager
    async def enforced(self, margin_seconds: float) -> AsyncIterator[None]:
        """Raise `DeadlineExceededError` in the block once the time and the margin are over."""
        try:
            async with asyncio.timeout(self.until.seconds_left + margin_seconds) as limit:
                entry = (limit, margin_seconds)
                self._enforced.append(entry)
                try:
                    yield
                finally:
                    self._enforced.remove(entry)
        except Exception as error:
            # The error of a route that was cut off is of no interest, unless the database caused it.
            if limit.expired() and not _tells(error):
                raise DeadlineExceededError("the request's deadline is over") from error
            raise

    def _within_platform(self, seconds: float) -> float:
        told = seconds_left(self._context)
        return seconds if told is None else max(0.0, min(seconds, told - ANSWER_RESERVE_SECONDS))


def _tells(error: Exception) -> bool:
    fault = classify(error)
    return fault is not None and fault.kind is not Kind.INTERNAL
