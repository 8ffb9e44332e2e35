"""The number of connections that a process uses at once, sync and async, in any thread and any event loop.

A caller that finds no place waits in turn, for a bounded time. A worker thread that waits is replaced by
another one meanwhile, since the connections in use may need a thread to finish their work.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Lock, RLock
from typing import Any, Protocol
from weakref import WeakSet

from ..deadlines import current_deadline
from ..errors import PoolExhaustedError
from ..observability.request_stats import stats_or_discard

# How often a caller that waits looks whether it still should.
LOOK_SECONDS = 0.1
# Raises if the wait is in vain.
Look = Callable[[], None]


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

    def wait(self, seconds: float, look: Look) -> None:
        """Wait for the place, for `seconds` at most."""
        end = time.monotonic() + seconds
        while not self._waits.acquire(timeout=max(0.0, min(LOOK_SECONDS, end - time.monotonic()))):
            if time.monotonic() >= end:
                return
            look()


class _TaskWaiter:
    """A task that waits for a place, in whichever event loop runs it."""

    def __init__(self) -> None:
        self.granted = False
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        if running_loop() is self._loop:
            self._end()
            return True
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            return False
        return True

    def _end(self) -> None:
        if not self._came.done():
            self._came.set_result(None)

    async def wait(self, seconds: float, look: Look) -> None:
        """Wait for the place, for `seconds` at most."""
        timer = self._loop.call_later(seconds, self._end)
        self._look_later(look)
        try:
            await self._came
        finally:
            timer.cancel()
            self._looks.cancel()

    def _look_later(self, look: Look) -> None:
        self._looks = self._loop.call_later(LOOK_SECONDS, self._look, look)

    def _look(self, look: Look) -> None:
        try:
            look()
        except Exception as error:  # noqa: BLE001  (the task's, which waits)
            if not self._came.done():
                self._came.set_exception(error)
        else:
            self._look_later(look)


def _nothing() -> None: ...


class Turns:
    """Grants `capacity` turns at once, in the order of asking."""

    # Callers that were refused.
    refused = 0
    # Called when a caller begins to wait, for holders that can give a turn back early.
    on_wait: Sequence[Callable[[], None]] = ()

    def __init__(self, capacity: int, timeout_seconds: float) -> None:
        self.capacity = capacity
        self.timeout_seconds = timeout_seconds
        self._free = capacity
        self._waiters: deque[_Waiter] = deque()
        # The garbage collector may give a connection back at any moment, in this thread too.
        self._lock = RLock()

    @property
    def waiting(self) -> int:
        """The number of callers that wait now."""
        return len(self._waiters)

    @property
    def used(self) -> int:
        """The number of turns that are taken."""
        return self.capacity - self._free

    def try_acquire(self) -> bool:
        """Take a turn if one is free."""
        with self._lock:
            if self._free and not self._waiters:
                self._free -= 1
                return True
            return False

    def acquire(self, look: Look = _nothing) -> None:
        """Take a turn, waiting in this thread, or raise `PoolExhaustedError`, or what `look` raises."""
        if self.try_acquire():
            return
        if running_loop():
            raise self._refusal(
                "Every connection is in use, and waiting for one here would stop the event loop. "
                "In async code use AsyncSessionDep, AsyncReadSessionDep or async_transaction()."
            )
        waiter = _ThreadWaiter()
        with self._waited(waiter) as seconds, _another_worker_thread():
            waiter.wait(seconds, look)

    async def acquire_async(self, look: Look = _nothing) -> None:
        """`acquire` for async code."""
        if self.try_acquire():
            return
        waiter = _TaskWaiter()
        with self._waited(waiter) as seconds:
            await waiter.wait(seconds, look)

    def release(self) -> None:
        """Give a turn back: to the caller that has waited for longest, if any waits."""
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
            # Cancelled: a turn that came at the same moment goes on to the next.
            if self._dequeue(waiter):
                self.release()
            raise
        finally:
            stats_or_discard().pool_seconds += time.perf_counter() - begin
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
        """Return True if the waiter was granted a turn; if not, it is granted none from now on."""
        with self._lock:
            if not waiter.granted:
                self._waiters.remove(waiter)
            return waiter.granted

    def _refusal(self, text: str) -> PoolExhaustedError:
        self.refused += 1
        return PoolExhaustedError(text)


class Limiter(Turns):
    """Turns for the connections of a process: its places."""

    def __init__(self, capacity: int, timeout_seconds: float) -> None:
        super().__init__(capacity, timeout_seconds)
        # The pools that share it.
        self.pools: WeakSet[Any] = WeakSet()
        # Those that are taken: of requests, and of what belongs to none.
        self.places: set[Any] = set()
        self.others: set[Any] = set()
        self.on_wait: list[Callable[[], None]] = []


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
    if "anyio" not in sys.modules:
        return lambda _number: None
    # Servers do not import it by themselves.
    threads: Any = import_module("anyio.from_thread")
    token = getattr(threads.threadlocals, "current_token", None)
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
