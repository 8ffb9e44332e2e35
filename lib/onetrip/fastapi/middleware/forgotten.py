"""Connections that a request leaves behind: of sessions that it never closed, of tasks that a freeze stops.

A session that nothing ends would keep its place for good, async ones even when they are collected too late.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import greenlet_spawn

from ...observability.request_stats import current_stats
from ...pool.limiter import Limiter
from ...pool.second_session import session_of
from ...pool.unit import Unit

_LOOK_SECONDS = 0.01
# What a task that was cancelled may take for its end.
_CANCEL_SECONDS = 0.25

logger = logging.getLogger(__name__)


async def give_back(unit: Unit) -> None:
    """End the transactions of sessions that the request left open, with a warning that names them.

    The sessions may be used again: another request of a session that is kept in a global begins anew.
    """
    for place in unit.forgotten:
        session = session_of(place.record.info) if place.record else None
        transaction = session.get_transaction() if session else None
        if session is None or transaction is None or getattr(session, "depth", False):
            continue
        _warn(session)
        with suppress(Exception):
            if _connection(transaction).dialect.is_async:
                await greenlet_spawn(transaction.close)
            else:
                await asyncio.to_thread(transaction.close)


async def stand_down(limiter: Limiter, seconds: float) -> None:
    """Let tasks that hold connections finish with them, for `seconds` at most, then cancel them.

    A frozen process answers nothing: the server would see its transactions idle, with their locks.
    """
    end = time.monotonic() + seconds
    while limiter.used and time.monotonic() < end:  # noqa: ASYNC110  (threads give back, too)
        await asyncio.sleep(_LOOK_SECONDS)
    tasks = [holder.task for holder in (*limiter.places, *limiter.others) if holder.task]
    for task in tasks:
        logger.warning(
            "a task that held a connection at the end of its invocation was cancelled: await what you start",
            extra={"fields": {"task": task.get_name()}},
        )
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)


def _connection(transaction: SessionTransaction) -> Connection:
    return next(iter(transaction._connections.values()))[0]  # noqa: SLF001  (as the session's own code has it)


def _warn(session: Session) -> None:
    stats = current_stats()
    fields = {"session": type(session).__name__, "route": stats.find_route() if stats else None}
    logger.warning(
        "a request left a session or connection open: its %s was rolled back. Open it with `with`, or close "
        "it in a `finally`",
        type(session).__name__,
        extra={"fields": fields},
    )
