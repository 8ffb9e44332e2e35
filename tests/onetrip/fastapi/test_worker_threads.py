"""Sync code of requests in worker threads: as with anyio, and nothing of a request is left in one."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread

from lib.onetrip.fastapi import worker_threads
from lib.onetrip.fastapi.worker_threads import in_own_worker, in_worker


async def until(holds: Callable[[], object]) -> None:
    """Wait until it holds."""
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110  (threads know of no event)
            await asyncio.sleep(0.001)


name: ContextVar[str] = ContextVar("name", default="nothing")


def _workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "request worker"]


def _stop_iterating() -> None:
    raise StopIteration


def test_results_errors_and_context_variables_pass_as_with_anyio() -> None:
    """The function sees the task's variables, and what it sets is its own."""

    def renamed() -> tuple[str, bool]:
        before = name.get()
        name.set("changed")
        return before, threading.current_thread() is threading.main_thread()

    async def work() -> None:
        name.set("the request's")
        for call in (in_worker, in_own_worker):
            assert await call(renamed) == ("the request's", False)
            assert name.get() == "the request's"
            with pytest.raises(ZeroDivisionError):
                await call(lambda: 1 // 0)
            with pytest.raises(RuntimeError, match="StopIteration"):
                await call(_stop_iterating)

    asyncio.run(work())


def test_a_function_in_a_thread_may_call_the_loop_by_anyio() -> None:
    """`anyio.from_thread` works, and is told of no cancellation."""

    async def doubled(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    def calling() -> int:
        from_thread.check_cancelled()
        return from_thread.run(doubled, 21)

    async def work() -> None:
        assert await in_worker(calling) == 42
        with anyio.CancelScope():
            assert await in_worker(calling) == 42

    asyncio.run(work())


def test_no_more_threads_work_than_the_limiter_allows() -> None:
    """Calls beyond it wait for their turn; one that must end needs none."""
    at_work = most = 0
    lock = threading.Lock()

    def counted() -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with lock:
            at_work -= 1

    async def work() -> None:
        to_thread.current_default_thread_limiter().total_tokens = 2
        await asyncio.gather(*(in_worker(counted) for _ in range(12)))
        assert most == 2
        opened = threading.Event()
        waiting = [asyncio.ensure_future(in_worker(opened.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        assert await in_own_worker(lambda: "ended") == "ended"
        opened.set()
        await asyncio.gather(*waiting)

    asyncio.run(work())


@pytest.mark.parametrize("call", [in_worker, in_own_worker])
def test_a_function_whose_task_was_cancelled_goes_on(call: Callable[..., Any]) -> None:
    """Its thread and its place are free again afterwards."""
    begun, opened, done = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        opened.wait()
        done.set()

    async def work() -> None:
        task = asyncio.ensure_future(call(slow))
        await until(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not done.is_set()
        opened.set()
        await until(done.is_set)
        assert to_thread.current_default_thread_limiter().borrowed_tokens == 0
        assert await in_worker(lambda: 7) == 7

    asyncio.run(work())


def test_a_cancel_scope_waits_for_the_function_in_it() -> None:
    """As with anyio, a scope that is over does not leave the thread behind."""
    done = threading.Event()

    def slow(loop: asyncio.AbstractEventLoop, scope: anyio.CancelScope) -> None:
        loop.call_soon_threadsafe(scope.cancel)
        time.sleep(0.05)
        done.set()

    async def work() -> None:
        for call in (in_worker, in_own_worker):
            done.clear()
            with anyio.CancelScope() as scope:
                await call(partial(slow, asyncio.get_running_loop(), scope))
            assert scope.cancel_called
            assert done.is_set()

    asyncio.run(work())


def test_a_thread_keeps_nothing_of_the_calls_that_it_did() -> None:
    """Functions, results and errors are collected while it waits for the next one."""

    class Thing:
        pass

    async def work() -> None:
        kept: list[weakref.ref[object]] = []

        def are_gone() -> bool:
            gc.collect()
            return not any(ref() for ref in kept)

        def made(thing: Thing) -> Thing:
            return thing

        def failed(thing: Thing) -> None:
            raise ValueError(thing)

        for function in (made, failed):
            thing = Thing()
            kept.append(weakref.ref(thing))
            with suppress(ValueError):
                await in_worker(partial(function, thing))
            del thing
        del function
        # The thread forgets the last one once it waits again.
        await until(are_gone)

    asyncio.run(work())


def test_threads_that_are_not_needed_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of loops that are closed, too; a call that comes then has a new one."""
    monkeypatch.setattr(worker_threads, "_IDLE_SECONDS", 0.02)

    async def work() -> None:
        await asyncio.gather(*(in_worker(lambda: time.sleep(0.001)) for _ in range(5)))
        await until(lambda: not _workers())
        assert await in_worker(lambda: 7) == 7

    for _ in range(3):
        asyncio.run(work())
    end = time.monotonic() + 10
    while _workers() and time.monotonic() < end:
        time.sleep(0.01)
    assert not _workers()


def test_another_release_of_anyio_does_all_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its insides are not those that were read, no thread of ours is started."""
    monkeypatch.setattr(worker_threads, "_IS_KNOWN", False)

    async def work() -> None:
        for call in (in_worker, in_own_worker):
            assert await call(lambda: threading.current_thread().name) == "AnyIO worker thread"

    asyncio.run(work())
