"""OpenTelemetry where its SDK is loaded, and nothing at all where it is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ..pool.database import Database
    from .otel_pool import PoolInstruments


def sdk_is_loaded() -> bool:
    """Whether somebody, such as `opentelemetry-instrument`, has brought an SDK into this process."""
    return "opentelemetry.sdk" in sys.modules


def observe_statements(engine: Engine) -> None:
    """Make the engine's statements spans, if somebody collects them."""
    if sdk_is_loaded():
        from .otel_statements import trace_statements  # noqa: PLC0415

        trace_statements(engine)


def trace_ids() -> dict[str, str]:
    """The names of the trace and the span at hand, by which logs and traces find each other."""
    if not sdk_is_loaded():
        return {}
    from . import otel_pool as open_telemetry  # noqa: PLC0415

    return open_telemetry.trace_ids()


def flush() -> None:
    """Send what was recorded, if anything was."""
    if sdk_is_loaded():
        from . import otel_pool as open_telemetry  # noqa: PLC0415

        open_telemetry.flush()


class Measures:
    """The instruments of a database's pool, if somebody collects them."""

    def __init__(self, database: Database) -> None:
        # Between two requests on Lambda the process is frozen.
        self._freezes = database.settings.platform.serves_one_request_at_a_time
        self._instruments: PoolInstruments | None = None
        if sdk_is_loaded():
            from .otel_pool import PoolInstruments  # noqa: PLC0415

            self._instruments = PoolInstruments(database)

    def request_ended(self) -> None:
        """Record the request at hand, and send it where the process may be frozen now."""
        if self._instruments:
            self._instruments.request_ended()
            if self._freezes:
                flush()
