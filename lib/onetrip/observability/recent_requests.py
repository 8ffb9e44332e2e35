"""The last requests of this process, for a look at how it does just now."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from itertools import count
from secrets import token_hex
from typing import NamedTuple

KEPT = 120


class RecentRequest(NamedTuple):
    """One request and its cost."""

    at: float
    method: str
    route: str
    status: int
    seconds: float
    db_seconds: float
    round_trips: int


class RecentRequests:
    """Keeps the last of them, in their order."""

    def __init__(self, kept: int = KEPT) -> None:
        self._requests: deque[tuple[int, RecentRequest]] = deque(maxlen=kept)
        self._numbers = count(1)

    @cached_property
    def instance(self) -> str:
        """A name of the process, made when it is first asked for: copies of one snapshot must differ."""
        return token_hex(2)

    def add(self, request: RecentRequest) -> None:
        """Keep one more, under the next number, and forget the oldest."""
        self._requests.append((next(self._numbers), request))

    def since(self, number: int) -> list[tuple[int, RecentRequest]]:
        """Those that came after the one with this number, each with its own."""
        return [numbered for numbered in list(self._requests) if numbered[0] > number]
