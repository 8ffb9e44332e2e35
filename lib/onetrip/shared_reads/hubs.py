"""The hubs of a database, one for each event loop."""

from __future__ import annotations

import asyncio
from threading import Lock
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from .hub import Hub
from .seat import SeatEngine

if TYPE_CHECKING:
    from ..pool.database import Database


class SharedReads:
    """The hubs of a database, one for each event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hubs: dict[Any, tuple[Hub, Engine]] = {}
        self._lock = Lock()

    def here(self) -> tuple[Hub, Engine]:
        """The hub of the loop that runs, and the engine of its seats."""
        return self.of(asyncio.get_running_loop())

    def of(self, loop: asyncio.AbstractEventLoop) -> tuple[Hub, Engine]:
        """The same for any loop, in any thread."""
        found = self._hubs.get(loop)
        if found is not None and not found[0].has_closed:
            return found
        with self._lock:
            for other in [other for other in self._hubs if other.is_closed()]:
                self._hubs.pop(other)[0].close()
            found = self._hubs.get(loop)
            if found is None or found[0].has_closed:
                database = self._database
                hub = Hub(loop, database.reading_engine, database.replica_limiter, database.pool_watch)
                found = self._hubs[loop] = (hub, SeatEngine(database.reading_options_engine, hub))
            return found

    def close(self) -> None:
        """Give all connections back."""
        with self._lock:
            hubs, self._hubs = self._hubs, {}
        for hub, _ in hubs.values():
            hub.close()

    def report(self) -> dict[str, int]:
        """The state of all hubs together."""
        reports = [hub.report() for hub, _ in self._hubs.values()]
        return {name: sum(report[name] for report in reports) for name in (reports[0] if reports else ())}
