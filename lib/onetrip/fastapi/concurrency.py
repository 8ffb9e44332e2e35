"""Sync functions of a request: dependencies, endpoints, and the end of sync sessions.

On Lambda nothing else happens while a request is served, so they run on the event loop's own thread: a
worker thread would cost twice their time. Anywhere else many requests share the loop, and they run in
worker threads. FastAPI is told so once, so that any route and any router will do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, ParamSpec, TypeVar

import fastapi.dependencies.utils
import fastapi.routing
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ..pool.unit import current_part, in_this_thread

P = ParamSpec("P")
R = TypeVar("R")

# Set for each request by the middleware, which knows the platform; None outside of its requests.
runs_inline: ContextVar[bool | None] = ContextVar("runs_inline", default=None)
# Values that are validated without asking anything of a database, as a relation of an object would.
_PLAIN = (str, int, float, bool, type(None), BaseModel)


class _Work:
    """A function in a worker thread. Nothing ends it, not even the cancellation of its request."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._part = current_part()
        self._begun = threading.Lock()
        # Held until it is done.
        self._running = threading.Lock()
        self._running.acquire()

    def run(self) -> Any:
        """Run the function, unless the request was over before."""
        if not self._begun.acquire(blocking=False):
            return None
        try:
            with in_this_thread(self._part):
                return self._function()
        finally:
            self._running.release()

    def goes_on(self) -> bool:
        """True while it runs; if it has not begun by now, it never will."""
        return not self._begun.acquire(blocking=False) and self._running.locked()

    def then(self, leave: Callable[[], object]) -> None:
        """Call `leave` once it is done, in a thread of its own."""
        threading.Thread(target=lambda: self._running.acquire() and leave(), daemon=True).start()


_work: ContextVar[_Work | None] = ContextVar("work", default=None)


async def call(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a sync function of a request here, or in a worker thread if other requests would have to wait."""
    inline = runs_inline.get()
    if inline:
        return function(*args, **kwargs)
    if inline is None:
        return await run_in_threadpool(function, *args, **kwargs)
    from .worker_threads import in_worker  # noqa: PLC0415  (not where code runs inline)

    work = _Work(partial(function, *args, **kwargs))
    _work.set(work)
    result: R = await in_worker(work.run)
    return result


def run_sync_code_by_platform() -> None:
    """Let FastAPI run sync dependencies and endpoints by `call`; outside of our requests nothing changes."""
    # The modules in which FastAPI looks up the functions that run sync code.
    routing: Any = fastapi.routing
    dependencies: Any = fastapi.dependencies.utils
    routing.run_in_threadpool = _call_for_route
    dependencies.run_in_threadpool = call
    dependencies.contextmanager_in_threadpool = entered_by_platform


async def _call_for_route(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """`call` for endpoints and what they return: of plain values no thread is needed to make an answer."""
    if getattr(function, "__name__", "") == "validate" and args and _is_plain(args[0]):
        return function(*args, **kwargs)
    return await call(function, *args, **kwargs)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(part, _PLAIN) for part in value.values())
    if isinstance(value, list):
        return not value or _is_plain(value[0])
    return isinstance(value, _PLAIN)


@asynccontextmanager
async def entered_by_platform(manager: AbstractContextManager[R]) -> AsyncIterator[R]:
    """FastAPI's `contextmanager_in_threadpool`: a sync dependency with `yield`, the application's own.

    It is not left while a thread of its cancelled request still works with what it yielded.
    """
    value = await call(manager.__enter__)
    try:
        yield value
    except BaseException as error:
        if not await leave(partial(manager.__exit__, type(error), error, error.__traceback__), value, error):
            raise
    else:
        await leave(partial(manager.__exit__, None, None, None), value, None)


async def leave(ending: Callable[[], object], session: object, error: BaseException | None) -> bool:
    """Call `ending`, which commits or rolls back, and return whether it swallowed the error.

    It is finished even if the request is cancelled meanwhile, and needs no free worker thread: requests
    that hold all of them may be waiting for the connection that it gives back. If the session has nothing
    to send (it `is_at_rest`), that is done here.
    """
    if runs_inline.get():
        return bool(ending())
    work = _work.get()
    if error and work and work.goes_on():
        # The request was cancelled, but its thread still uses what is to be left here.
        work.then(ending)
        return False
    if getattr(session, "is_at_rest", False):
        return bool(ending())
    from .worker_threads import in_own_worker  # noqa: PLC0415  (the same)

    parting = _Work(ending)
    try:
        swallowed = await in_own_worker(parting.run)
    except asyncio.CancelledError:
        # asyncio's own cancelling heeds no shield, and a worker that had not begun yet never will.
        threading.Thread(target=parting.run, daemon=True).start()
        raise
    return bool(swallowed)
