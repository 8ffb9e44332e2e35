"""Write a route once, sync or async; the platform decides where it runs.

On Lambda nothing else happens while a request is served, so a sync route runs on the loop's own
thread: a worker thread would cost twice the route's time. Anywhere else many requests share the
loop, and sync work goes to a worker thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar

import anyio
from fastapi.routing import APIRoute

P = ParamSpec("P")
R = TypeVar("R")

# Set for each request by the middleware, which knows the platform.
blocks_nobody: ContextVar[bool] = ContextVar("blocks_nobody", default=False)


class _Work:
    """A function on its way through a worker thread, which nothing ends: neither its request's cancelling."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._begun = threading.Lock()
        self._done = threading.Event()

    def run(self) -> Any:
        """What the function returns; nothing is done if the request was over before."""
        if not self._begun.acquire(blocking=False):
            return None
        try:
            return self._function()
        finally:
            self._done.set()

    def goes_on(self) -> bool:
        """Whether it runs still; if it has not begun by now, it never will."""
        return not self._begun.acquire(blocking=False) and not self._done.is_set()

    def then(self, leave: Callable[[], object]) -> None:
        """Call `leave` once it is done, in a thread that nobody waits for."""
        threading.Thread(target=lambda: self._done.wait() and leave(), daemon=True).start()


_work: ContextVar[_Work | None] = ContextVar("work", default=None)


class PlatformRoute(APIRoute):
    """A route whose sync endpoint runs where it costs least on this platform."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _suited(endpoint), **options)


async def call(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a sync function here, or in a worker thread if others would have to wait."""
    if blocks_nobody.get():
        return function(*args, **kwargs)
    work = _Work(partial(function, *args, **kwargs))
    _work.set(work)
    result: R = await anyio.to_thread.run_sync(work.run)
    return result


@asynccontextmanager
async def entered(manager: AbstractContextManager[R]) -> AsyncIterator[R]:
    """Enter a sync context manager that opens without waiting; leave it where `call` says.

    Leaving (a COMMIT, a ROLLBACK) is finished even if the request is cancelled meanwhile, and needs
    no free worker thread: those who hold all of them may be waiting for what it gives back. What says
    that it `is_at_rest` is left without waiting, and so left here.
    """
    value = manager.__enter__()
    try:
        yield value
    except BaseException as error:
        if not await _leave(manager, value, error):
            raise
    else:
        await _leave(manager, value, None)


async def _leave(manager: AbstractContextManager[R], value: R, error: BaseException | None) -> bool:
    raised = (type(error), error, error.__traceback__) if error else (None, None, None)
    leave = partial(manager.__exit__, *raised)
    if blocks_nobody.get():
        return bool(leave())
    work = _work.get()
    if error and work and work.goes_on():
        # The request was cancelled, but its thread still uses what is to be left here.
        work.then(leave)
        return False
    if getattr(value, "is_at_rest", False):
        return bool(leave())
    parting = _Work(leave)
    try:
        with anyio.CancelScope(shield=True):
            swallowed = await anyio.to_thread.run_sync(parting.run, limiter=anyio.CapacityLimiter(1))
    except asyncio.CancelledError:
        # asyncio's own cancelling heeds no shield, and a worker that had not begun yet never will.
        threading.Thread(target=parting.run, daemon=True).start()
        raise
    return bool(swallowed)


def _suited(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(endpoint):
        return endpoint

    @wraps(endpoint)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await call(endpoint, *args, **kwargs)

    return run
