"""OpenTelemetry, switched on where an SDK is loaded. Without an SDK nothing is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ..pool.database import Database
    from .otel_pool import PoolInstruments


def sdk_is_loaded() -> bool:
    """Return True if an SDK is loaded in this process, for example by `opentelemetry-instrument`."""
    return "opentelemetry.sdk" in sys.modules


def observe_statements(engine: Engine) -> None:
    """Record the engine's statements as spans, if an SDK is loaded."""
    if sdk_is_loaded():
        from .otel_statements import trace_statements  # noqa: PLC0415

        trace_statements(engine)


def trace_ids() -> dict[str, str]:
    """Return the current trace and span ids, which connect log lines with traces."""
    if not sdk_is_loaded():
        return {}
    from . import otel_pool as open_telemetry  # noqa: PLC0415

    return open_telemetry.trace_ids()


def flush() -> None:
    """Export what was recorded, if an SDK is loaded."""
    if sdk_is_loaded():
        from . import otel_pool as open_telemetry  # noqa: PLC0415

        open_telemetry.flush()


class Measures:
    """The metrics of a database's pool, if an SDK is loaded."""

    def __init__(self, database: Database) -> None:
        # Lambda freezes the process between two requests.
        self._freezes = database.settings.platform.serves_one_request_at_a_time
        self._instruments: PoolInstruments | None = None
        if sdk_is_loaded():
            from .otel_pool import PoolInstruments  # noqa: PLC0415

            self._instruments = PoolInstruments(database)

    def request_ended(self) -> None:
        """Record the current request, and export at once where the process may be frozen next."""
        if self._instruments:
            self._instruments.request_ended()
            if self._freezes:
                flush()
