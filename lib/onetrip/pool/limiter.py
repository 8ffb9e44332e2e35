"""No more units of work inside one process than it has connections; the others wait outside.

Without it, work that waits for a connection would hold the worker threads that the work which has
one needs to finish and give it back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..deadlines import current_deadline
from ..errors import PoolExhaustedError
from ..observability.request_stats import any_tally


class Gate:
    """Lets `capacity` in at once; whoever waits longer than `timeout_seconds` is turned away."""

    def __init__(self, capacity: int, timeout_seconds: float) -> None:
        self.capacity = capacity
        self._timeout_seconds = timeout_seconds
        self._places = asyncio.Semaphore(capacity)
        # Who waits outside now, and how many were turned away since the process started.
        self.waiting = 0
        self.turned_away = 0

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Be inside for the block, or raise `PoolExhaustedError`."""
        if self._places.locked():
            await self._wait()
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    async def _wait(self) -> None:
        deadline = current_deadline()
        patience = min(self._timeout_seconds, deadline.seconds_left) if deadline else self._timeout_seconds
        begin = time.perf_counter()
        self.waiting += 1
        try:
            async with asyncio.timeout(patience):
                await self._places.acquire()
        except TimeoutError:
            self.turned_away += 1
            raise PoolExhaustedError(f"no connection became free within {patience:.1f} s") from None
        finally:
            self.waiting -= 1
            any_tally().pool_seconds += time.perf_counter() - begin
