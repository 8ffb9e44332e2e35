"""The round trips of a connection, counted in the request stats of the code that waits."""

from __future__ import annotations

from typing import TypeVar

from psycopg import waiting
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

from ..observability.request_stats import Tally, current_tally
from .protocol import Steps

R = TypeVar("R")


def counted(pgconn: PGconn, steps: Steps[R], tally: Tally) -> Steps[R]:
    """The same steps, counted in `tally` if they are a round trip."""
    # A pipeline is counted at its end, and what goes on (a stream, a COPY) was counted when it began.
    goes_on = pgconn.pipeline_status or pgconn.transaction_status == TransactionStatus.ACTIVE
    return steps if goes_on else _round_trip(steps, tally)


def note_round_trips(count: int = 1) -> None:
    """Note round trips beyond the first one of a wait."""
    if tally := current_tally():
        tally.round_trips += count


def _round_trip(steps: Steps[R], tally: Tally) -> Steps[R]:
    """The same steps, noted as a round trip if they wait for an answer."""
    ready, asked = None, False
    try:
        while True:
            awaited = steps.send(ready)
            if awaited == waiting.Wait.R and not asked:
                asked = True
                tally.round_trips += 1
            ready = yield awaited
    except StopIteration as end:
        result: R = end.value
        return result
