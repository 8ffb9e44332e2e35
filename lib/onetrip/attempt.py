"""An attempt at a request or a unit of work, and whether anything was committed in it.

What was acknowledged as committed must not be done again, whichever way it was committed: at the end of a
session, by `commit()` in a route, in a transaction of its own, with `LAST`, by a statement in AUTOCOMMIT, or
by the driver. So connections note it here, and code that repeats (the middleware, `retry`) looks here first.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Self


class Attempt:
    """One try; `committed` is set once a COMMIT in it was acknowledged, save of a read-only transaction."""

    __slots__ = ("_token", "committed", "outer")
    _token: Token[Attempt | None]

    def __init__(self, outer: Attempt | None = None) -> None:
        self.outer = outer
        self.committed = False

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


_current: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def attempt() -> Attempt:
    """Note in the attempt, a context manager, what its block commits, in its tasks and threads too."""
    return Attempt(_current.get())


def note_commit() -> None:
    """Note that a transaction that could write was committed just now."""
    tried = _current.get()
    while tried is not None:
        tried.committed = True
        tried = tried.outer
