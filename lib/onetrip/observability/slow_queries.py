"""Warnings about slow statements, with their text and without their data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event

from .caller_stack import application_lines, frames

_LONGEST_TEXT = 2000
_BEGAN = "_began_at"
# SQLAlchemy's events of a statement and of the connection that it takes.
_OF_ENGINE = (
    *("before_cursor_execute", "after_cursor_execute", "before_execute", "after_execute"),
    *("engine_connect", "begin", "rollback", "commit"),
)
# Modules whose listeners look at what a connection keeps from one statement to the next: SQLAlchemy's
# own sets the options of an engine on it, the others serve sessions that hold it.
_OF_CONNECTIONS = ("sqlalchemy.engine.default", ".pool.second_session", ".pool.ends", ".pool.refused_writes")
_OF_DIALECT = ("handle_error", "do_execute", "do_execute_no_params", "do_setinputsizes")

logger = logging.getLogger(__name__)


class SlowQueries:
    """Logs a warning for each statement that takes `slow_seconds` or longer, also if it fails."""

    def __init__(self, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds

    def begins(self, _c: Any, _k: Any, text: str, values: Any, context: Any, _m: bool) -> Any:  # noqa: FBT001  (SQLAlchemy's)
        """Note the time."""
        setattr(context, _BEGAN, time.perf_counter())
        return text, values

    def ends(self, _c: Any, _k: Any, statement: str, _p: Any, context: Any, _m: bool) -> None:  # noqa: FBT001
        """Judge a statement that was answered."""
        self._judge_in(context, statement)

    def fails(self, failure: Any) -> None:
        """Judge a statement that failed."""
        if failure.statement and failure.execution_context is not None:
            self._judge_in(failure.execution_context, failure.statement)

    def judge(self, statement: str, seconds: float) -> None:
        """Warn of a statement that took so long, if that is too long."""
        if seconds >= self._slow_seconds:
            text = " ".join(statement.split())[:_LONGEST_TEXT]
            caller = application_lines(frames())
            fields = {"statement": text, "duration_seconds": round(seconds, 6), "caller": caller}
            logger.warning("slow query", extra={"fields": fields})

    def _judge_in(self, context: Any, statement: str) -> None:
        began = getattr(context, _BEGAN, None)
        if began is not None:
            # A later error in the same context must not log the statement twice.
            setattr(context, _BEGAN, None)
            self.judge(statement, time.perf_counter() - began)


def watch(engine: Engine, slow_seconds: float) -> None:
    """Log a warning for each statement that takes `slow_seconds` or longer, also if it fails."""
    watcher = SlowQueries(slow_seconds)
    # With `retval` SQLAlchemy calls the function itself, and not a wrapper around it.
    event.listen(engine, "before_cursor_execute", watcher.begins, retval=True)
    event.listen(engine, "after_cursor_execute", watcher.ends)
    event.listen(engine, "handle_error", watcher.fails)


def only_watcher(engine: Engine) -> SlowQueries | None:
    """The watcher of an engine whose statements nothing else listens to."""
    owners = {*_owners(engine.dispatch, _OF_ENGINE), *_owners(engine.dialect.dispatch, _OF_DIALECT)}
    owner = owners.pop() if len(owners) == 1 else None
    return owner if isinstance(owner, SlowQueries) else None


def _owners(dispatch: Any, names: tuple[str, ...]) -> Iterator[object]:
    for name in names:
        for listener in getattr(dispatch, name):
            if not listener.__module__.endswith(_OF_CONNECTIONS):
                yield getattr(listener, "__self__", None)
