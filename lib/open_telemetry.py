"""OpenTelemetry's view of the database: instruments of the pool, spans of statements.

Imported only where an SDK is loaded before the application is. FastAPI itself makes the spans and
metrics of requests; what is here hangs below them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import Span, SpanKind, StatusCode
from sqlalchemy import Engine, event

from lib.tally import current_tally

if TYPE_CHECKING:
    from lib.engine import Database

NAME = "fastapi-on-neon"
# A flush keeps a request from its answer, or a process from its freeze, for no longer.
FLUSH_SECONDS = 1.0
_POOL = {"db.client.connection.pool.name": NAME}
_LONGEST_TEXT = 2000
_SPAN = "_otel_span"


class PoolInstruments:
    """The instruments of one database's pool, by OpenTelemetry's names."""

    def __init__(self, database: Database) -> None:
        self._database = database
        meter = metrics.get_meter(NAME)
        self._create_time = _seconds(meter, "create_time", "Opening a connection.")
        self._wait_time = _seconds(meter, "wait_time", "Waiting for a place in the pool.")
        use_time = _seconds(meter, "use_time", "From a connection's lending to its return.")
        database.pool_watch.on_return = lambda seconds: use_time.record(seconds, _POOL)
        gauge, counter = meter.create_observable_up_down_counter, meter.create_observable_counter
        gauge(f"{_PREFIX}.count", [self._count], "{connection}", "Connections that are open, by state.")
        gauge(f"{_PREFIX}.max", [self._max], "{connection}", "Connections that may be open.")
        gauge(f"{_PREFIX}.pending_requests", [self._pending], "{request}", "Requests that wait for one.")
        counter(f"{_PREFIX}.timeouts", [self._timeouts], "{timeout}", "Requests that waited in vain.")

    def request_ended(self) -> None:
        """Record what the request at hand waited for."""
        if (tally := current_tally()) is None:
            return
        if tally.connections:
            self._create_time.record(tally.connect_seconds / tally.connections, _POOL)
        if tally.round_trips or tally.pool_seconds:
            self._wait_time.record(tally.pool_seconds, _POOL)

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        state = self._database.pool_state
        for name, number in (("idle", state.checked_in), ("used", state.checked_out)):
            yield Observation(number, {**_POOL, "db.client.connection.state": name})

    def _max(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._database.capacity, _POOL)

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._database.gate.waiting, _POOL)

    def _timeouts(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._database.gate.turned_away, _POOL)


def trace_statements(engine: Engine) -> None:
    """Make each of the engine's statements a span, with its text and never its data."""
    tracer = trace.get_tracer(NAME)

    def begins(_c: Any, _k: Any, statement: str, _p: Any, context: Any, _m: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        operation = statement.lstrip().partition(" ")[0].upper()
        attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": operation,
            "db.query.text": statement[:_LONGEST_TEXT],
        }
        span = tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
        setattr(context, _SPAN, span)

    def ends(_c: Any, _k: Any, _s: str, _p: Any, context: Any, _m: bool) -> None:  # noqa: FBT001
        _end(context)

    def fails(failure: Any) -> None:
        _end(failure.execution_context, failure.original_exception)

    event.listen(engine, "before_cursor_execute", begins)
    event.listen(engine, "after_cursor_execute", ends)
    event.listen(engine, "handle_error", fails)


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Send what was recorded, before the platform freezes the process."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        force = getattr(provider, "force_flush", None)
        if force:
            force(timeout_millis=int(seconds * 1000))


def _end(context: Any, error: BaseException | None = None) -> None:
    span: Span | None = getattr(context, _SPAN, None)
    if span is None:
        return
    setattr(context, _SPAN, None)
    if error:
        # The SQLSTATE, not the text, which may hold data.
        code = getattr(error, "sqlstate", None) or type(error).__name__
        span.set_attribute("error.type", code)
        span.set_status(StatusCode.ERROR)
    span.end()


_PREFIX = "db.client.connection"


def _seconds(meter: Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(f"{_PREFIX}.{name}", "s", description)
