"""The pools' checkouts: how full the pools are, which requests hold connections, and which for too long.

Nothing here runs by itself: a thread or a timer would stand still with a frozen process. Checkouts are
looked at when one begins, when one ends, and when a request ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Engine, Pool, QueuePool, event

from ..observability.caller_stack import Frames, application_lines, frames
from ..observability.request_stats import RequestStats, current_stats

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Checkout:
    """A connection that is out, and to whom."""

    since: float
    # Of the request; its route may be found later.
    stats: RequestStats | None
    frames: Frames = field(repr=False)
    warned: bool = False

    @property
    def held_seconds(self) -> float:
        """Seconds since the checkout."""
        return time.monotonic() - self.since

    def report(self) -> dict[str, Any]:
        """The holder and the time so far, the innermost caller last."""
        return {
            "held_seconds": round(self.held_seconds, 3),
            "held_by_route": self.stats.find_route() if self.stats else None,
            "held_by_request": self.stats.ids.get("request_id") if self.stats else None,
            "borrower": application_lines(self.frames),
        }


class PoolWatch:
    """Knows the checkouts of the engines that it watches, and warns once of each that lasts too long."""

    def __init__(self, leak_seconds: float) -> None:
        self._leak_seconds = leak_seconds
        self._checkouts: dict[int, Checkout] = {}
        # Called with the seconds that each checkout lasted.
        self.on_return: Callable[[float], None] = lambda _seconds: None

    def watch(self, engine: Engine) -> None:
        """Note each checkout from the engine's pool from now on."""
        event.listen(engine, "checkout", self._on_checkout)
        event.listen(engine, "checkin", self._on_checkin)
        event.listen(engine, "detach", self._on_checkin)

    def warn_of_leaks(self) -> None:
        """Warn of what has been out for too long by now."""
        for checkout in list(self._checkouts.values()):
            self._warn_if_leaked(checkout)

    @property
    def checked_out(self) -> int:
        """The number of connections that are checked out."""
        return len(self._checkouts)

    def excuse(self, fairy: Any) -> None:
        """Forget the checkout of a connection that is meant to stay out, so that none warns of it."""
        self._checkouts.pop(id(fairy._connection_record), None)  # noqa: SLF001  (it has no other name)

    def longest(self, number: int = 5) -> list[dict[str, Any]]:
        """The checkouts that have lasted longest."""
        longest = sorted(self._checkouts.values(), key=lambda checkout: checkout.since)
        return [checkout.report() for checkout in longest[:number]]

    def _on_checkout(self, _connection: Any, record: Any, _fairy: Any) -> None:
        self.warn_of_leaks()
        self._checkouts[id(record)] = Checkout(time.monotonic(), current_stats(), frames())

    def _on_checkin(self, _connection: Any, record: Any) -> None:
        checkout = self._checkouts.pop(id(record), None)
        if checkout is None:
            return
        self.on_return(checkout.held_seconds)
        self._warn_if_leaked(checkout)
        if checkout.warned:
            logger.info("a connection that was held too long came back", extra={"fields": checkout.report()})

    def _warn_if_leaked(self, checkout: Checkout) -> None:
        if not checkout.warned and checkout.held_seconds >= self._leak_seconds:
            checkout.warned = True
            logger.warning("a connection is held too long", extra={"fields": checkout.report()})


class PoolState(NamedTuple):
    """The state of the pools; of connections, `total` are open, and `checked_out` of them in use."""

    size: int
    checked_in: int
    checked_out: int
    overflow: int

    @property
    def total(self) -> int:
        """Connections that are open."""
        return self.checked_in + self.checked_out

    @classmethod
    def of(cls, pools: list[Pool], size: int, watch: PoolWatch) -> PoolState:
        """The state of a process's pools taken together."""
        queues = [pool for pool in pools if isinstance(pool, QueuePool)]
        checked_out = sum(queue.checkedout() for queue in queues)
        # A pool that keeps none does not count its checkouts.
        others = watch.checked_out - checked_out if len(queues) < len(pools) else 0
        return cls(
            size=size,
            checked_in=sum(queue.checkedin() for queue in queues),
            checked_out=checked_out + max(0, others),
            overflow=sum(max(0, queue.overflow()) for queue in queues),
        )
