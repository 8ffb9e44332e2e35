"""The round trips of a connection, counted in the request stats of the code that waits."""

from __future__ import annotations

from typing import TypeVar

from psycopg import waiting
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

from ..observability.request_stats import RequestStats, current_stats
from .protocol import Steps

R = TypeVar("R")


def collecting(pgconn: PGconn, steps: Steps[R], stats: RequestStats) -> Steps[R]:
    """The same steps, counted in `tally` if they are a round trip."""
    # A pipeline is counted at its end, and what goes on (a stream, a COPY) was counted when it began.
    goes_on = pgconn.pipeline_status or pgconn.transaction_status == TransactionStatus.ACTIVE
    return steps if goes_on else _round_trip(steps, stats)


def note_round_trips(count: int = 1) -> None:
    """Note round trips beyond the first one of a wait."""
    if stats := current_stats():
        stats.round_trips += count


def _round_trip(steps: Steps[R], stats: RequestStats) -> Steps[R]:
    """The same steps, noted as a round trip if they wait for an answer."""
    ready, asked = None, False
    try:
        while True:
            awaited = steps.send(ready)
            if awaited == waiting.Wait.R and not asked:
                asked = True
                stats.round_trips += 1
            ready = yield awaited
    except StopIteration as end:
        result: R = end.value
        return result
