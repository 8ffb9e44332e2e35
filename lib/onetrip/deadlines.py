"""The moment by which work must be done: computed once for a request, and obeyed by every wait in it."""

from __future__ import annotations

import time
from contextlib import ContextDecorator
from contextvars import ContextVar
from dataclasses import dataclass

# The server gets this much less than the client, so that it ends a statement before the client cuts
# the connection: an ended statement leaves the connection usable.
SERVER_MARGIN_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Deadline:
    """A moment on the monotonic clock, for as long as the block that set it runs.

    Tasks and threads that outlive the block keep its context; `ended` releases them from its deadline.
    """

    at: float
    outer: Deadline | None = None
    ended: bool = False

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def seconds_left(self) -> float:
        """Seconds until then, 0 once it is over."""
        return max(0.0, self.at - time.monotonic())

    @property
    def is_over(self) -> bool:
        """True once it is too late."""
        return time.monotonic() >= self.at

    def statement_timeout_ms(self) -> int:
        """The milliseconds that are left for a statement on the server, at least 1 (0 means no limit)."""
        return max(1, int((self.seconds_left - SERVER_MARGIN_SECONDS) * 1000))


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current_deadline() -> Deadline | None:
    """The deadline that holds here, if any; never one whose block has ended."""
    deadline = _current.get()
    while deadline is not None and deadline.ended:
        deadline = deadline.outer
    return deadline


class deadline(ContextDecorator):  # noqa: N801  (used like a function)
    """Let everything in the block end within `seconds`, or sooner if an outer deadline says so."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def _recreate_cm(self) -> deadline:
        # For each call of a function that it decorates.
        return deadline(self._seconds)

    def __enter__(self) -> Deadline:
        inner = Deadline.after(self._seconds)
        if outer := current_deadline():
            inner.outer, inner.at = outer, min(inner.at, outer.at)
        self._holding = holding(inner)
        return self._holding.__enter__()

    def __exit__(self, *_: object) -> None:
        self._holding.__exit__()


class holding:  # noqa: N801  (used like a function)
    """Let this deadline hold in the block, whichever holds around it.

    A server may start a request in the context of an earlier one.
    """

    __slots__ = ("_deadline", "_token")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __enter__(self) -> Deadline:
        self._token = _current.set(self._deadline)
        return self._deadline

    def __exit__(self, *_: object) -> None:
        self._deadline.ended = True
        _current.reset(self._token)
