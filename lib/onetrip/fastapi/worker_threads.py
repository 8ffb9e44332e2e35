"""Worker threads for the sync code of requests: anyio's, for a tenth of its work in each call.

anyio passes through the event loop three times before a thread begins, and enters two cancel scopes. Where a
request is within such a scope, or all threads are at work, the call is left to anyio.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import anyio.to_thread
from anyio import CancelScope, CapacityLimiter, WouldBlock

try:
    from anyio._backends._asyncio import AsyncIOBackend, _task_states
    from anyio._core._eventloop import claim_worker_thread, threadlocals
except ImportError:
    # A release of anyio with other insides does all of it.
    _IS_KNOWN = False
else:
    _IS_KNOWN = True

R = TypeVar("R")

# A thread that is not needed for this long ends, as anyio's do.
_IDLE_SECONDS = 10.0


async def in_worker(function: Callable[[], R]) -> R:
    """Call a function in one of the worker threads, which are as many as anyio's limiter allows."""
    # A token for the call, not for its task, which may have several.
    threads, turn = _threads_of(asyncio.get_running_loop()), object()
    if _is_in_scope() or not threads.begins(turn):
        return await anyio.to_thread.run_sync(function)
    try:
        return await threads.called(function)
    finally:
        threads.limiter.release_on_behalf_of(turn)


async def in_own_worker(function: Callable[[], R]) -> R:
    """Call a function in a worker thread, even if all are at work, and let no cancel scope stop it."""
    if not _is_in_scope():
        return await _threads_of(asyncio.get_running_loop()).called(function)
    # One that waits to begin is not stopped either.
    with CancelScope(shield=True):
        found = await anyio.to_thread.run_sync(function, limiter=CapacityLimiter(1))
    return found  # noqa: RET504  (a scope may end without it, for all that the type checker knows)


def _is_in_scope() -> bool:
    if not _IS_KNOWN:
        return True
    state = _task_states.get(asyncio.current_task())  # type: ignore[arg-type]  # there is a task
    return state is not None and state.cancel_scope is not None


class _Threads:
    """The worker threads of one event loop, and the limiter of anyio's for them."""

    def __init__(self) -> None:
        self.limiter = anyio.to_thread.current_default_thread_limiter()
        self._idle: deque[_Worker] = deque()

    def begins(self, turn: object) -> bool:
        """Take one of the limiter's tokens; False if all are taken."""
        try:
            self.limiter.acquire_on_behalf_of_nowait(turn)
        except WouldBlock:
            return False
        return True

    async def called(self, function: Callable[[], R]) -> R:
        """The result of the function, which goes on if the task that waits for it is cancelled."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        if self._idle:
            worker = self._idle.pop()
        else:
            worker = _Worker(loop, self._idle)
            # It outlives the request, and keeps nothing of it.
            Context().run(worker.start)
        worker.calls.put((copy_context(), function, future))
        return await future


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Threads] = WeakKeyDictionary()


def _threads_of(loop: asyncio.AbstractEventLoop) -> _Threads:
    threads = _of_loops.get(loop)
    if threads is None:
        threads = _of_loops[loop] = _Threads()
    return threads


class _Worker(threading.Thread):
    """A thread that does one call after another for the tasks of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: deque[_Worker]) -> None:
        super().__init__(name="request worker", daemon=True)
        self._loop = loop
        self._idle = idle
        self.calls: SimpleQueue[tuple[Context, Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()

    def run(self) -> None:
        """Wait for calls, until none comes any more."""
        # For functions that use `anyio.from_thread`.
        with claim_worker_thread(AsyncIOBackend, self._loop):
            threadlocals.current_cancel_scope = None
            while True:
                try:
                    self._work(*self.calls.get(timeout=_IDLE_SECONDS))
                except Empty:
                    if self._ends():
                        return

    def _work(self, context: Context, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        # A call that was cancelled before it begins is not made.
        result, error = (None, None) if future.cancelled() else _outcome(context, function)
        self._idle.append(self)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_settle, future, result, error)

    def _ends(self) -> bool:
        """True unless a call is on its way."""
        try:
            self._idle.remove(self)
        except ValueError:
            return False
        return True


def _outcome(context: Context, function: Callable[[], R]) -> tuple[R | None, BaseException | None]:
    try:
        return context.run(function), None
    except StopIteration as error:
        told = RuntimeError("a function in a worker thread raised StopIteration")
        told.__cause__ = error
        return None, told
    except BaseException as error:  # noqa: BLE001  (the task that waits is told)
        return None, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
