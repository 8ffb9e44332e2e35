"""OpenTelemetry metrics of the pool, and the export of everything that was recorded.

Imported only if an SDK was loaded before the application. FastAPI records the spans and metrics of
requests; the spans of statements are their children.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from threading import Thread
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from .request_stats import current_stats

if TYPE_CHECKING:
    from ..pool.database import Database

NAME = "onetrip"
# The longest that a flush delays a response or a shutdown.
FLUSH_SECONDS = 1.0
_POOL = {"db.client.connection.pool.name": NAME}
_PREFIX = "db.client.connection"
# Seconds, from the semantic conventions for databases; the SDK's defaults suit milliseconds.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

logger = logging.getLogger(__name__)


class PoolInstruments:
    """The metrics of one database's pool, under OpenTelemetry's names."""

    def __init__(self, database: Database) -> None:
        self._database = database
        meter = metrics.get_meter(NAME)
        self._create_time = _seconds(meter, "create_time", "Opening a connection.")
        self._wait_time = _seconds(meter, "wait_time", "Waiting for a place in the pool.")
        use_time = _seconds(meter, "use_time", "Time between checkout and return of a connection.")
        database.pool_watch.on_return = lambda seconds: use_time.record(seconds, _POOL)
        gauge, counter = meter.create_observable_up_down_counter, meter.create_observable_counter
        gauge(f"{_PREFIX}.count", [self._count], "{connection}", "Connections that are open, by state.")
        gauge(f"{_PREFIX}.max", [self._max], "{connection}", "Connections that may be open.")
        gauge(f"{_PREFIX}.pending_requests", [self._pending], "{request}", "Requests that wait for one.")
        counter(f"{_PREFIX}.timeouts", [self._timeouts], "{timeout}", "Requests that got no connection.")

    def request_ended(self) -> None:
        """Record how long the current request waited for connections."""
        if (stats := current_stats()) is None:
            return
        if stats.connections:
            self._create_time.record(stats.connect_seconds / stats.connections, _POOL)
        if stats.round_trips or stats.pool_seconds:
            self._wait_time.record(stats.pool_seconds, _POOL)

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        state = self._database.pool_state
        for name, number in (("idle", state.checked_in), ("used", state.checked_out)):
            yield Observation(number, {**_POOL, "db.client.connection.state": name})

    def _max(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._database.capacity, _POOL)

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._database.limiter.waiting, _POOL)

    def _timeouts(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._database.limiter.refused, _POOL)


def trace_ids() -> dict[str, str]:
    """Return the current trace and span ids in hexadecimal; an empty dict without a span."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class _Flush:
    """Exports in a thread of its own, since parts of the SDK ignore their timeout."""

    def __init__(self) -> None:
        self._thread: Thread | None = None

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds` for the export; a slower one continues when the process resumes."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=_send, args=[seconds], name="telemetry", daemon=True)
            self._thread.start()
        self._thread.join(seconds)


_flush = _Flush()


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Export before the platform freezes the process. A failing collector raises nothing."""
    _flush.wait(seconds)


def _send(seconds: float) -> None:
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        try:
            # Providers of the API alone have nothing to send.
            getattr(provider, "force_flush", int)(int(seconds * 1000))
        except Exception as error:  # noqa: BLE001  (an exporter may raise anything)
            logger.warning("telemetry could not be sent: %s", type(error).__name__)


def _seconds(meter: Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(
        f"{_PREFIX}.{name}", "s", description, explicit_bucket_boundaries_advisory=BUCKETS
    )
