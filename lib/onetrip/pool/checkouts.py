"""The pools' checkouts: how full the pools are, which requests hold connections, and which for too long.

Nothing here runs by itself: a thread or a timer would stand still with a frozen process. Checkouts are
looked at when one begins, when one ends, and when a request ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Pool, QueuePool, event

from ..observability.caller_stack import Frames, application_lines, frames
from ..observability.request_stats import current_tally

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Loan:
    """A connection that is out, and to whom."""

    since: float
    route: str | None
    request_id: str | None
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
            "held_by_route": self.route,
            "held_by_request": self.request_id,
            "borrower": application_lines(self.frames),
        }


class PoolWatch:
    """Knows the checkouts of the engines that it watches, and warns once of each that lasts too long."""

    def __init__(self, leak_seconds: float) -> None:
        self._leak_seconds = leak_seconds
        self._loans: dict[int, Loan] = {}
        # Called with the seconds that each checkout lasted.
        self.on_return: Callable[[float], None] = lambda _seconds: None

    def watch(self, engine: Engine) -> None:
        """Note each checkout from the engine's pool from now on."""
        event.listen(engine, "checkout", self._lent)
        event.listen(engine, "checkin", self._returned)
        event.listen(engine, "detach", self._returned)

    def look(self) -> None:
        """Warn of what has been out for too long by now."""
        for loan in list(self._loans.values()):
            self._judge(loan)

    @property
    def lent(self) -> int:
        """The number of connections that are checked out."""
        return len(self._loans)

    def excuse(self, fairy: Any) -> None:
        """Take the connection for one that is meant to stay out: no warning, no borrower."""
        self._loans.pop(id(fairy._connection_record), None)  # noqa: SLF001  (it has no other name)

    def longest(self, number: int = 5) -> list[dict[str, Any]]:
        """The checkouts that have lasted longest."""
        loans = sorted(self._loans.values(), key=lambda loan: loan.since)
        return [loan.report() for loan in loans[:number]]

    def _lent(self, _connection: Any, record: Any, _fairy: Any) -> None:
        self.look()
        tally = current_tally()
        self._loans[id(record)] = Loan(
            since=time.monotonic(),
            route=tally.find_route() if tally else None,
            request_id=tally.ids.get("request_id") if tally else None,
            frames=frames(),
        )

    def _returned(self, _connection: Any, record: Any) -> None:
        loan = self._loans.pop(id(record), None)
        if loan is None:
            return
        self.on_return(loan.held_seconds)
        self._judge(loan)
        if loan.warned:
            logger.info("a connection that was held too long came back", extra={"fields": loan.report()})

    def _judge(self, loan: Loan) -> None:
        if not loan.warned and loan.held_seconds >= self._leak_seconds:
            loan.warned = True
            logger.warning("a connection is held too long", extra={"fields": loan.report()})


@dataclass(frozen=True, slots=True)
class PoolState:
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
        lent = sum(queue.checkedout() for queue in queues)
        # A pool that keeps none does not count its checkouts.
        others = watch.lent - lent if len(queues) < len(pools) else 0
        return cls(
            size=size,
            checked_in=sum(queue.checkedin() for queue in queues),
            checked_out=lent + max(0, others),
            overflow=sum(max(0, queue.overflow()) for queue in queues),
        )
