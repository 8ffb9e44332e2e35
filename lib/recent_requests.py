"""The last requests of this process, for whoever wants to see how it does just now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KEPT = 120


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """What one request took; `number` counts them from the process's start."""

    number: int
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
        self._requests: deque[RecentRequest] = deque(maxlen=kept)

    def add(self, request: RecentRequest) -> None:
        """Keep one more, and forget the oldest."""
        self._requests.append(request)

    def since(self, number: int) -> list[RecentRequest]:
        """Those that came after the one with this number."""
        return [request for request in list(self._requests) if request.number > number]
