"""Request stats: the round trips of the current request, and where its time went.

The middleware opens them for each request, and connections add what they send. Outside a request, as in
a script, nothing is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class RequestStats:
    """The costs of one request, and the ids by which logs name it."""

    ids: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    # For the log of development alone: it may hold what a client keeps to itself.
    path: str | None = None
    # A function, since the route is found after the stats were opened.
    find_route: Callable[[], str | None] = lambda: None
    # Bursts sent before an answer was awaited. Logins are counted as connections instead.
    round_trips: int = 0
    db_seconds: float = 0.0
    pool_seconds: float = 0.0
    connect_seconds: float = 0.0
    connections: int = 0
    tries: int = 1
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.began

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Time the block as the opening of one connection."""
        begin = time.perf_counter()
        try:
            yield
            self.connections += 1
        finally:
            self.connect_seconds += time.perf_counter() - begin


_current: ContextVar[RequestStats | None] = ContextVar("tally", default=None)


def current_stats() -> RequestStats | None:
    """Return the stats of the current request, or None outside a request."""
    return _current.get()


def note_round_trips(count: int = 1) -> None:
    """Note round trips of a connection beyond the first one of a wait."""
    if stats := _current.get():
        stats.round_trips += count


def stats_or_discard() -> RequestStats:
    """Return the stats of the current request, or new ones that are discarded."""
    return _current.get() or RequestStats()


class collecting:  # noqa: N801  (used like a function)
    """Add the costs of the block to `stats`."""

    __slots__ = ("_stats", "_token")

    def __init__(self, stats: RequestStats) -> None:
        self._stats = stats

    def __enter__(self) -> RequestStats:
        self._token = _current.set(self._stats)
        return self._stats

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
