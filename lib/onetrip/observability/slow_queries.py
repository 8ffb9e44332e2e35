"""Warnings about slow statements, with their text and without their data."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy import Engine, event

from .caller_stack import application_lines, frames

_LONGEST_TEXT = 2000
_BEGAN = "_began_at"

logger = logging.getLogger(__name__)


def watch(engine: Engine, slow_seconds: float) -> None:
    """Log a warning for each statement that takes `slow_seconds` or longer, also if it fails."""

    def begins(_c: Any, _k: Any, _s: str, _p: Any, context: Any, _m: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        setattr(context, _BEGAN, time.perf_counter())

    def ends(_c: Any, _k: Any, statement: str, _p: Any, context: Any, _m: bool) -> None:  # noqa: FBT001
        _judge(statement, context, slow_seconds)

    def fails(failure: Any) -> None:
        if failure.statement and failure.execution_context is not None:
            _judge(failure.statement, failure.execution_context, slow_seconds)

    event.listen(engine, "before_cursor_execute", begins)
    event.listen(engine, "after_cursor_execute", ends)
    event.listen(engine, "handle_error", fails)


def _judge(statement: str, context: Any, slow_seconds: float) -> None:
    began = getattr(context, _BEGAN, None)
    if began is None:
        return
    seconds = time.perf_counter() - began
    # A later error in the same context must not log the statement twice.
    setattr(context, _BEGAN, None)
    if seconds >= slow_seconds:
        text = " ".join(statement.split())[:_LONGEST_TEXT]
        caller = application_lines(frames())
        fields = {"statement": text, "duration_seconds": round(seconds, 6), "caller": caller}
        logger.warning("slow query", extra={"fields": fields})
