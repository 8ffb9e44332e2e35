"""Probes of the database, each bounded in time. Reports hold no names and no error texts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from contextvars import Context
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Literal, NamedTuple

from .. import server_messages
from ..deadlines import deadline
from ..observability.request_stats import RequestStats, collecting, current_stats
from ..process import process
from ..sqlstate import Kind, classify, is_waking, reason
from .schema import SchemaState, state_of

if TYPE_CHECKING:
    # Imported with the first probe: the liveness route works without SQLAlchemy.
    from sqlalchemy.orm import Session

    from ..pool.database import Database

CACHE_SECONDS = 1.0
PROBE_SECONDS = 2.0
_VERSION = "SELECT current_setting('server_version')"
# The schema's state where Alembic's table is missing, or may not be read.
_NO_TABLE: dict[str | None, SchemaState | None] = {"42P01": "behind", "42501": None}

# Busy: every connection of this process is checked out, so the probe got none.
Status = Literal["ready", "waking", "busy", "down"]

logger = logging.getLogger(__name__)


class Report(NamedTuple):
    """The result of a probe: status, milliseconds of the query, server version, state of the schema."""

    status: Status
    latency_ms: float | None = None
    server_version: str | None = None
    schema: SchemaState | None = None


class Probe:
    """Checks that the database (default: the process's own) answers, at most once a second."""

    def __init__(
        self,
        database: Database | None = None,
        clock: Callable[[], float] = time.monotonic,
        revisions: Sequence[str] = (),
    ) -> None:
        self._database = database
        self._revisions = revisions
        self._clock = clock
        self._lock = Lock()
        self._report: Report | None = None
        self._expires = 0.0
        # The query under way, which all wait for that ask meanwhile.
        self._running: Future[Report] | None = None

    @property
    def newest(self) -> Report | None:
        """The last report, of any age; None before the first probe."""
        return self._report

    def report(self) -> Report:
        """Return a report at most a second old; concurrent callers share one query."""
        running, is_new = self._join()
        if is_new:
            self._run(running)
        return running.result()

    async def async_report(self) -> Report:
        """`report` for async code: however many ask, one thread waits for the database."""
        running, is_new = self._join()
        if is_new:
            # Outside of any request: the query has a deadline and a place of its own. Who asked first pays.
            run = partial(self._run, running, current_stats())
            Thread(target=Context().run, args=[run], name="probe", daemon=True).start()
        return await asyncio.shield(asyncio.wrap_future(running))

    def _join(self) -> tuple[Future[Report], bool]:
        """The query under way, or a report that is fresh; True if the query has yet to be run."""
        with self._lock:
            if self._running:
                return self._running, False
            running: Future[Report] = Future()
            if self._report and self._clock() < self._expires:
                running.set_result(self._report)
                return running, False
            self._running = running
            return running, True

    def _run(self, running: Future[Report], stats: RequestStats | None = None) -> None:
        try:
            with collecting(stats) if stats else nullcontext():
                report = self._ask(self._report.status if self._report else "ready")
        except BaseException as error:  # noqa: BLE001  (each caller is told)
            self._running = None
            running.set_exception(error)
            return
        with self._lock:
            self._report, self._expires = report, self._clock() + CACHE_SECONDS
            self._running = None
        running.set_result(report)

    def _ask(self, before: Status) -> Report:
        from ..session.session import reading  # noqa: PLC0415  (late, since it imports SQLAlchemy)

        try:
            with deadline(PROBE_SECONDS), reading(self._database) as session:
                session.connection()
                with process.cold_start.phase("first_query"):
                    begin = time.perf_counter()
                    version, schema = _version_and_schema(session, self._revisions)
                    latency_ms = round((time.perf_counter() - begin) * 1000, 2)
        except Exception as error:
            fault = classify(error)
            if fault is None:
                raise
            status = _status(error, fault.kind)
            if status != before:
                logger.warning("the database is %s: %s", status, reason(error))
            return Report(status)
        if before != "ready":
            logger.info("the database is ready again")
        return Report("ready", latency_ms, version.split()[0], schema)


def _status(error: Exception, kind: Kind) -> Status:
    if is_waking(error) or server_messages.is_waking(str(error)):
        return "waking"
    return "busy" if kind is Kind.BUSY else "down"


def _version_and_schema(session: Session, revisions: Sequence[str]) -> tuple[str, SchemaState | None]:
    """Return the server's version and the schema's state from one query; None for an unknown state."""
    from sqlalchemy import text  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    if not revisions:
        return str(session.scalar(text(_VERSION))), None
    try:
        row = session.execute(text(f"{_VERSION}, max(version_num) FROM alembic_version")).one()
    except DBAPIError as error:
        fault = classify(error)
        if fault is None or fault.sqlstate not in _NO_TABLE:
            raise
        session.rollback()
        return str(session.scalar(text(_VERSION))), _NO_TABLE[fault.sqlstate]
    return row[0], state_of(row[1], revisions)
