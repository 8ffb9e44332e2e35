"""OpenTelemetry's view of the pool, and how all that was recorded is sent.

Imported only where an SDK is loaded before the application is. FastAPI itself makes the spans and
metrics of requests; what is here hangs below them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from threading import Thread
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from .request_stats import current_tally

if TYPE_CHECKING:
    from ..pool.database import Database

NAME = "onetrip"
# A flush keeps a request from its answer, or a process from its freeze, for no longer.
FLUSH_SECONDS = 1.0
_POOL = {"db.client.connection.pool.name": NAME}
_PREFIX = "db.client.connection"
# Seconds, as the conventions have them for the database; the SDK's own are made for milliseconds.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

logger = logging.getLogger(__name__)


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
        yield Observation(self._database.limiter.waiting, _POOL)

    def _timeouts(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._database.limiter.refused, _POOL)


def trace_ids() -> dict[str, str]:
    """The ids of the trace and the span at hand, as other tools write them; none without a span."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class _Flush:
    """Sends what was recorded in a thread of its own: not every part of the SDK heeds a timeout."""

    def __init__(self) -> None:
        self._thread: Thread | None = None

    def wait(self, seconds: float) -> None:
        """Wait so long for what is being sent; what takes longer goes on when the process does."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=_send, args=[seconds], name="telemetry", daemon=True)
            self._thread.start()
        self._thread.join(seconds)


_flush = _Flush()


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Send what was recorded, before the platform freezes the process; no collector's failure ends it."""
    _flush.wait(seconds)


def _send(seconds: float) -> None:
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        try:
            # Providers of the API alone have nothing to send.
            getattr(provider, "force_flush", int)(int(seconds * 1000))
        except Exception as error:  # noqa: BLE001  (whatever an exporter raises)
            logger.warning("telemetry could not be sent: %s", type(error).__name__)


def _seconds(meter: Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(
        f"{_PREFIX}.{name}", "s", description, explicit_bucket_boundaries_advisory=BUCKETS
    )
