"""A time limit for work that cannot be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

from ..deadlines import deadline
from ..errors import DeadlineExceededError

R = TypeVar("R")

# Work that ends by its own deadline raises a more precise error than an abandoned thread.
_GRACE_SECONDS = 0.4


def within(seconds: float, work: Callable[[], R]) -> R:
    """Return or raise the outcome of `work`; raise `DeadlineExceededError` if it takes longer.

    It runs in a thread that may be abandoned: a DNS lookup cannot be interrupted.
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
