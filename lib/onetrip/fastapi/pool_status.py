"""The pool's state and the requests that hold its connections; in production for operators."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ..pool.database import Database
from ..pool.sizing import pool_kind
from .operators import OPERATORS_ONLY
from .sessions import DatabaseDep

router = APIRouter(prefix="/db", tags=["health"], dependencies=[OPERATORS_ONLY])


@router.get("/pool-status", response_model=None)
async def pool_status(database: DatabaseDep) -> dict[str, Any]:
    """The state of the pool of the process that answers; nothing is opened for it.

    `utilization` is the share of `capacity` that is checked out; `waiting` requests wait for a place.
    """
    return pool_report(database)


def pool_report(database: Database) -> dict[str, Any]:
    """The pool's state as JSON has it."""
    state, capacity = database.pool_state, database.capacity
    report: dict[str, Any] = {
        "kind": pool_kind(database.settings),
        "size": state.size,
        "checked_in": state.checked_in,
        "checked_out": state.checked_out,
        "overflow": state.overflow,
        "total": state.total,
        "capacity": capacity,
        "utilization": round(state.checked_out / capacity, 3),
        "waiting": database.limiter.waiting,
        "turned_away": database.limiter.refused,
        "longest_held": database.pool_watch.longest(),
    }
    if database.shares_now and (shared := database.shared_reads.report()):
        report["shared_reads"] = shared
    return report
