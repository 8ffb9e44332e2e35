"""When the answer has to be there. Computed once at the door, passed inwards, obeyed by every wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# What the server is given less than the client, so that it ends a statement before the client cuts
# the connection: an ended statement leaves the connection usable.
SERVER_MARGIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock."""

    at: float

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
        """Whether it is too late."""
        return time.monotonic() >= self.at

    def statement_timeout_ms(self) -> int:
        """What is left for a statement on the server, at least 1 (0 would mean for ever)."""
        return max(1, int((self.seconds_left - SERVER_MARGIN_SECONDS) * 1000))


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current_deadline() -> Deadline | None:
    """The deadline that holds here, if any."""
    return _current.get()


@contextmanager
def deadline(seconds: float, *, anew: bool = False) -> Iterator[Deadline]:
    """Let everything in the block end within `seconds`, or sooner if an outer deadline says so.

    `anew` is for who stands at the door: an outer deadline there is what an earlier request left behind.
    """
    inner = Deadline.after(seconds)
    outer = None if anew else _current.get()
    token = _current.set(outer if outer and outer.at < inner.at else inner)
    try:
        yield _current.get() or inner
    finally:
        _current.reset(token)
