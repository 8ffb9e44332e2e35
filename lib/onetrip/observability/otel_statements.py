"""OpenTelemetry spans and durations of statements, with their text and without their data."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import Engine, event

from .otel_pool import BUCKETS, NAME

_LONGEST_TEXT = 2000
_LONGEST_SUMMARY = 255
_POSTGRES_PORT = 5432
_TRACED = "_otel_statement"
# Literals and comments, which may be data; then the words that name tables and the operation.
_NO_NAMES = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_TABLES = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+((?:\w+\.)?\w+)", re.IGNORECASE)
_OPERATION = re.compile(
    r"(?:ALTER|CALL|COPY|CREATE|DECLARE|DELETE|DO|DROP|EXPLAIN|GRANT|INSERT|LISTEN|LOCK|MERGE|NOTIFY"
    r"|RELEASE|ROLLBACK|SAVEPOINT|SELECT|SET|SHOW|TRUNCATE|UPDATE|VALUES|WITH)\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=512)
def summary(statement: str) -> str:
    """Return the operation and its tables, a name with few values: `SELECT tasks users`."""
    words = _NO_NAMES.sub(" ", statement).strip()
    operation = _OPERATION.match(words)
    tables = dict.fromkeys(_TABLES.findall(words))
    return " ".join([operation[0].upper() if operation else "SQL", *tables])[:_LONGEST_SUMMARY]


def trace_statements(engine: Engine) -> None:
    """Record each statement of the engine as a span, and its duration in a histogram."""
    tracer = trace.get_tracer(NAME)
    durations = metrics.get_meter(NAME).create_histogram(
        "db.client.operation.duration",
        "s",
        "Duration of database client operations.",
        explicit_bucket_boundaries_advisory=BUCKETS,
    )
    server = _server(engine)

    def begins(_c: Any, _k: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        kind = summary(statement)
        shared = {**server, "db.query.summary": kind}
        attributes = {**shared, "db.query.text": statement[:_LONGEST_TEXT]}
        if many and len(parameters) > 1:
            attributes["db.operation.batch.size"] = len(parameters)
        span = tracer.start_span(kind, kind=SpanKind.CLIENT, attributes=attributes)
        setattr(context, _TRACED, (span, shared, time.perf_counter()))

    def ends(_c: Any, _k: Any, _s: str, _p: Any, context: Any, _m: bool) -> None:  # noqa: FBT001
        end(context)

    def fails(failure: Any) -> None:
        end(failure.execution_context, failure.original_exception)

    def end(context: Any, error: BaseException | None = None) -> None:
        traced = getattr(context, _TRACED, None)
        if traced is None:
            return
        setattr(context, _TRACED, None)
        span, attributes, began = traced
        if error:
            attributes |= _failure(error)
            span.set_attributes(_failure(error))
            span.set_status(StatusCode.ERROR)
        with trace.use_span(span, end_on_exit=True):
            durations.record(time.perf_counter() - began, attributes)

    event.listen(engine, "before_cursor_execute", begins)
    event.listen(engine, "after_cursor_execute", ends)
    event.listen(engine, "handle_error", fails)


def _server(engine: Engine) -> dict[str, str | int]:
    """Return the server's attributes, as far as the engine's URL names them."""
    url = engine.url
    known: dict[str, str | int | None] = {
        "db.system.name": "postgresql",
        "db.namespace": url.database,
        "server.address": url.host,
        "server.port": url.port if url.host and url.port != _POSTGRES_PORT else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _failure(error: BaseException) -> dict[str, str]:
    """Return the SQLSTATE; the text is left out, since it may hold data."""
    code = getattr(error, "sqlstate", None)
    if code is None:
        return {"error.type": type(error).__name__}
    return {"error.type": code, "db.response.status_code": code}
