"""An attempt at a request or a unit of work, and whether anything was committed in it.

What was acknowledged as committed must not be done again, whichever way it was committed: at the end of a
session, by `commit()` in a route, in a transaction of its own, with `LAST`, by a statement in AUTOCOMMIT, or
by the driver. So connections note it here, and code that repeats (the middleware, `retry`) looks here first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Attempt:
    """One try; `committed` is set once a COMMIT in it was acknowledged, save of a read-only transaction."""

    __slots__ = ("committed", "outer")

    def __init__(self, outer: Attempt | None = None) -> None:
        self.outer = outer
        self.committed = False


_current: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


@contextmanager
def attempt() -> Iterator[Attempt]:
    """Note in the attempt that is yielded what the block commits, in its tasks and threads too."""
    tried = Attempt(_current.get())
    token = _current.set(tried)
    try:
        yield tried
    finally:
        _current.reset(token)


def note_commit() -> None:
    """Note that a transaction that could write was committed just now."""
    tried = _current.get()
    while tried is not None:
        tried.committed = True
        tried = tried.outer
