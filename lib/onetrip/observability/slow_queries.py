"""Warnings about slow statements, with their text and without their data."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine

from .caller_stack import application_lines, frames

_LONGEST_TEXT = 2000
# SQLAlchemy's events of a statement and of the connection that it takes.
_OF_ENGINE = (
    *("before_cursor_execute", "after_cursor_execute", "before_execute", "after_execute"),
    *("engine_connect", "begin", "rollback", "commit"),
)
_OF_DIALECT = ("handle_error", "do_execute", "do_execute_no_params", "do_setinputsizes")
# Modules whose listeners matter to no compiled query: SQLAlchemy's own sets the options of an engine.
_OF_CONNECTIONS = ("sqlalchemy.engine.default", ".pool.refused_writes", ".pool.second_session")

logger = logging.getLogger(__name__)


class SlowQueries:
    """Logs a warning for each statement that takes `slow_seconds` or longer, also if it fails."""

    def __init__(self, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds

    def judge(self, statement: str, seconds: float) -> None:
        """Warn of a statement that took so long, if that is too long."""
        if seconds >= self._slow_seconds:
            text = " ".join(statement.split())[:_LONGEST_TEXT]
            caller = application_lines(frames())
            fields = {"statement": text, "duration_seconds": round(seconds, 6), "caller": caller}
            logger.warning("slow query", extra={"fields": fields})


def watch(engine: Engine, slow_seconds: float) -> None:
    """Log a warning for each statement that takes `slow_seconds` or longer, also if it fails."""
    dialect: Any = engine.dialect
    dialect.after_statements += (SlowQueries(slow_seconds).judge,)


def is_unheard(engine: Any) -> bool:
    """True if nothing of the application's listens to the statements of an engine."""
    # An engine without listeners is not looked at, event by event.
    heard = engine._has_events and is_heard(engine.dispatch, _OF_ENGINE)  # noqa: SLF001  (pinned by a test)
    return not heard and not is_heard(engine.dialect.dispatch, _OF_DIALECT)


def is_heard(dispatch: Any, names: tuple[str, ...]) -> bool:
    """True if something of the application's listens to one of these events."""
    return are_heard([getattr(dispatch, name) for name in names])


def are_heard(events: Iterable[Iterable[Any]]) -> bool:
    """The same of events, each of which is what listens to it."""
    for listeners in events:
        for listener in listeners:
            # A function of Python's own has none.
            if not (listener.__module__ or "").endswith(_OF_CONNECTIONS):
                return True
    return False
