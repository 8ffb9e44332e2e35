"""What the work at hand has cost so far: its round trips, and where its time went.

Whoever serves a request opens a tally; the connections that it uses note in it what they send. Where
there is none, as in a script, nothing is noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """One request's costs, and the names by which logs refer to it."""

    ids: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    # Asked when it is wanted: a request comes to its route later than to its tally.
    find_route: Callable[[], str | None] = lambda: None
    # Bursts that were sent before an answer was awaited; a login is no round trip but a connection.
    round_trips: int = 0
    db_seconds: float = 0.0
    pool_seconds: float = 0.0
    connect_seconds: float = 0.0
    connections: int = 0
    tries: int = 1
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since it was opened."""
        return time.perf_counter() - self.began

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Time the block as one connection's opening."""
        begin = time.perf_counter()
        try:
            yield
            self.connections += 1
        finally:
            self.connect_seconds += time.perf_counter() - begin


_current: ContextVar[Tally | None] = ContextVar("tally", default=None)


def current_tally() -> Tally | None:
    """The tally of the work at hand, if it has one."""
    return _current.get()


def any_tally() -> Tally:
    """The tally of the work at hand, or one that nobody reads."""
    return _current.get() or Tally()


@contextmanager
def counted(tally: Tally) -> Iterator[Tally]:
    """Note in `tally` what the block costs."""
    token = _current.set(tally)
    try:
        yield tally
    finally:
        _current.reset(token)
