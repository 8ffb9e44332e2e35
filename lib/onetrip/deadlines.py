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

    def renew(self, seconds: float) -> None:
        """Set the moment to `seconds` from now: the work begins a part that has a time of its own."""
        self.at = time.monotonic() + seconds

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
    """Let everything in the block end within `seconds`, or sooner if an outer deadline says so.

    `anew` ignores an outer deadline: a server may start a request in the context of an earlier one.
    """

    def __init__(self, seconds: float, *, anew: bool = False) -> None:
        self._seconds = seconds
        self._anew = anew

    def _recreate_cm(self) -> deadline:
        # For each call of a function that it decorates.
        return deadline(self._seconds, anew=self._anew)

    def __enter__(self) -> Deadline:
        self._inner = inner = Deadline.after(self._seconds)
        outer = None if self._anew else current_deadline()
        if outer is not None:
            inner.outer, inner.at = outer, min(inner.at, outer.at)
        self._token = _current.set(inner)
        return inner

    def __exit__(self, *_: object) -> None:
        self._inner.ended = True
        _current.reset(self._token)
