"""Probes of the database, each bounded in time, and what they found, without names or texts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from lib.cold_start import cold_start
from lib.engine import Database
from lib.errors import is_waking

CACHE_SECONDS = 1.0

Status = Literal["ready", "waking", "down"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe found: the status, the milliseconds of its query, the server's version."""

    status: Status
    latency_ms: float | None = None
    server_version: str | None = None


class Probe:
    """Asks the database whether it answers, at most once a second for one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._report: Report | None = None
        self._expires = 0.0

    def report(self) -> Report:
        """The newest report; callers that come together share one query."""
        with self._lock:
            if self._report is None or time.monotonic() >= self._expires:
                self._report = _ask(self._database.engine)
                self._expires = time.monotonic() + CACHE_SECONDS
            return self._report


def _ask(engine: Engine) -> Report:
    try:
        with cold_start.phase("connect"):
            connection = engine.connect()
        with connection, cold_start.phase("first_query"):
            begin = time.perf_counter()
            version = connection.scalar(text("SELECT current_setting('server_version')"))
            latency_ms = round((time.perf_counter() - begin) * 1000, 2)
    except SQLAlchemyError as error:
        return Report("waking" if is_waking(error) else "down")
    return Report("ready", latency_ms, str(version).split()[0])
