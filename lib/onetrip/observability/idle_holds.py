"""A warning, in development, for a connection that was held while nothing was asked of it.

That is usually a slow call to elsewhere in the midst of a transaction. In a function with two connections two
such requests make all others wait.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy import Engine, event

from .caller_stack import application_lines, frames
from .request_stats import current_stats

HELD_SECONDS = 0.5
_SINCE = "idle_hold_since"

logger = logging.getLogger(__name__)


def watch(engine: Engine) -> None:
    """Warn of each pause of half a second between two statements, or between the last one and the end."""

    def begins(connection: Any, *_: Any) -> None:
        _judge(connection.info.pop(_SINCE, None))

    def ends(connection: Any, *_: Any) -> None:
        connection.info[_SINCE] = time.monotonic()

    def returned(_connection: Any, record: Any) -> None:
        _judge(record.info.pop(_SINCE, None))

    event.listen(engine, "before_cursor_execute", begins)
    event.listen(engine, "after_cursor_execute", ends)
    event.listen(engine, "checkin", returned)


def _judge(since: float | None) -> None:
    held = time.monotonic() - since if since is not None else 0.0
    if held < HELD_SECONDS:
        return
    stats = current_stats()
    fields = {
        "held_seconds": round(held, 3),
        "route": stats.find_route() if stats else None,
        "caller": application_lines(frames()),
    }
    logger.warning(
        "a connection was held without being used: call commit() before a slow call to elsewhere",
        extra={"fields": fields},
    )
