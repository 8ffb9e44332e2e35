"""The number of connections that a process uses at once, sync and async, in any thread and any event loop.

A caller that finds no place waits in turn, for a bounded time. A worker thread that waits is replaced by
another one meanwhile, since the connections in use may need a thread to finish their work.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Protocol
from weakref import WeakSet

from ..deadlines import current_deadline
from ..errors import PoolExhaustedError
from ..observability.request_stats import any_tally


class _Waiter(Protocol):
    granted: bool

    def wake(self) -> bool:
        """Resume the caller that waits; False if its event loop is gone."""


class _ThreadWaiter:
    """A thread that waits for a place."""

    def __init__(self) -> None:
        self.granted = False
        self._waits = Lock()
        self._waits.acquire()

    def wake(self) -> bool:
        self._waits.release()
        return True

    def wait(self, seconds: float) -> bool:
        """Whether the place came within `seconds`."""
        return self._waits.acquire(timeout=seconds)


class _TaskWaiter:
    """A task that waits for a place, in whichever event loop runs it."""

    def __init__(self) -> None:
        self.granted = False
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return False
        return True

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Whether the place came within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._future
        except TimeoutError:
            return False
        return True


class Limiter:
    """Grants `capacity` places at once, in the order of asking."""

    def __init__(self, capacity: int, timeout_seconds: float) -> None:
        self.capacity = capacity
        self.timeout_seconds = timeout_seconds
        # How many were refused after waiting, since the process started.
        self.refused = 0
        # The pools that share it.
        self.pools: WeakSet[Any] = WeakSet()
        # Called when a caller begins to wait, for holders that can give a place back early.
        self.on_wait: list[Callable[[], None]] = []
        self._free = capacity
        self._waiters: deque[_Waiter] = deque()
        self._lock = Lock()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiters)

    @property
    def used(self) -> int:
        """How many places are taken."""
        return self.capacity - self._free

    def try_acquire(self) -> bool:
        """Take a place if one is free."""
        with self._lock:
            if self._free and not self._waiters:
                self._free -= 1
                return True
            return False

    def acquire(self) -> None:
        """Take a place, waiting in this thread, or raise `PoolExhaustedError`."""
        if self.try_acquire():
            return
        if _runs_an_event_loop():
            raise self._refusal(
                "Every connection is in use, and waiting for one here would stop the event loop. "
                "In async code use AsyncSessionDep, AsyncReadSessionDep or async_transaction()."
            )
        waiter = _ThreadWaiter()
        with self._waited(waiter) as seconds, _another_worker_thread():
            waiter.wait(seconds)

    async def acquire_async(self) -> None:
        """Take a place, or raise `PoolExhaustedError`."""
        if self.try_acquire():
            return
        waiter = _TaskWaiter()
        with self._waited(waiter) as seconds:
            await waiter.wait(seconds)

    def release(self) -> None:
        """Give a place back: to the caller that has waited for longest, if any waits."""
        with self._lock:
            while self._waiters:
                waiter = self._waiters.popleft()
                waiter.granted = True
                if waiter.wake():
                    return
            self._free += 1

    @contextmanager
    def _waited(self, waiter: _Waiter) -> Iterator[float]:
        """Queue `waiter` for the block, which waits for the seconds that are yielded at most."""
        deadline, begin = current_deadline(), time.perf_counter()
        seconds = min(self.timeout_seconds, deadline.seconds_left) if deadline else self.timeout_seconds
        self._enqueue(waiter)
        for call in tuple(self.on_wait):
            call()
        granted = False
        try:
            yield seconds
            granted = self._dequeue(waiter)
        except BaseException:
            # Cancelled: a place that came at the same moment goes on to the next.
            if self._dequeue(waiter):
                self.release()
            raise
        finally:
            any_tally().pool_seconds += time.perf_counter() - begin
        if not granted:
            raise self._refusal(f"No connection became free within {seconds:.1f} s.")

    def _enqueue(self, waiter: _Waiter) -> None:
        with self._lock:
            if self._free and not self._waiters:
                # Given back since it was asked for.
                self._free -= 1
                waiter.granted = waiter.wake()
            else:
                self._waiters.append(waiter)

    def _dequeue(self, waiter: _Waiter) -> bool:
        """Whether the waiter was granted a place; if not, it is granted none from now on."""
        with self._lock:
            if not waiter.granted:
                self._waiters.remove(waiter)
            return waiter.granted

    def _refusal(self, text: str) -> PoolExhaustedError:
        self.refused += 1
        return PoolExhaustedError(text)


def _runs_an_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _another_worker_thread() -> Iterator[None]:
    """Let one more worker thread run while this one waits: an application's are anyio's, 40 by default."""
    change = _worker_limit()
    change(1)
    try:
        yield
    finally:
        change(-1)


def _worker_limit() -> Callable[[int], object]:
    """A function that changes the number of worker threads of the event loop that started this one."""
    threads: Any = getattr(sys.modules.get("anyio.from_thread"), "threadlocals", None)
    token = getattr(threads, "current_token", None)
    loop = getattr(token, "native_token", None)
    if not isinstance(loop, asyncio.AbstractEventLoop):
        return lambda _number: None

    def change(number: int) -> None:
        from anyio.to_thread import current_default_thread_limiter  # noqa: PLC0415  (imported long ago)

        current_default_thread_limiter().total_tokens += number

    def soon(number: int) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(change, number)

    return soon
