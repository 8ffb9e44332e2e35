"""Nothing is waited for longer than it was given, not even by what cannot be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

from ..deadlines import deadline
from ..errors import DeadlineExceededError

R = TypeVar("R")

# What ends by its deadline ends with a better message than what has to be left alone.
_GRACE_SECONDS = 0.4


def within(seconds: float, work: Callable[[], R]) -> R:
    """What `work` returns or raises; `DeadlineExceededError` if it takes longer.

    It runs in a thread that nobody waits for at the end: looking up a name cannot be interrupted.
    """
    future: Future[R] = Future()

    def run() -> None:
        try:
            with deadline(seconds):
                future.set_result(work())
        except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
            future.set_exception(error)

    Thread(target=copy_context().run, args=[run], daemon=True).start()
    try:
        return future.result(timeout=seconds + _GRACE_SECONDS)
    except TimeoutError:
        if future.done():
            raise
        raise DeadlineExceededError("it took too long") from None
