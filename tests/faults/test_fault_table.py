"""Every boundary between protocol messages, with each fault there: what is known afterwards is right."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.pq import Trace
from sqlalchemy import text
from sqlalchemy.orm import Session

from lib.onetrip.connection.dialect import LAST
from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.batch import batch
from lib.onetrip.session.session import reading, transaction
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.sqlstate import Kind, classify
from tests.faults.promises import SHORT
from tests.onetrip.fault_proxy import Proxy

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.onetrip.servers import Servers

DEADLINE_SECONDS = 2.0
# An order of magnitude: on a busy machine a new connection takes its time.
LATE_SECONDS = 5.0
DELAY_SECONDS = 0.5
WORKERS = 6
INSERT = text("INSERT INTO notes VALUES (:id)")
Work = Callable[[Database, int], object]


def _read(database: Database, number: int) -> object:
    with reading(database) as session:
        return session.scalar(text("SELECT :id"), {"id": number})


def _write(database: Database, number: int) -> object:
    with transaction(database) as session:
        return session.execute(INSERT, {"id": number})


def _last(database: Database, number: int) -> object:
    with transaction(database) as session:
        return session.execute(INSERT, {"id": number}, execution_options=LAST)


def _batch(database: Database, number: int) -> object:
    with transaction(database) as session:
        return batch(session, INSERT.bindparams(id=number), text("SELECT count(*) FROM notes"))


def _savepoint(database: Database, number: int) -> object:
    with transaction(database) as session, session.begin_nested():
        return session.execute(INSERT, {"id": number})


def _autocommit(database: Database, number: int) -> object:
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(engine) as session:
        return session.execute(INSERT, {"id": number})


def _kept(database: Database, number: int) -> object:
    """Two reads of kept sessions: the second one takes along the answer to the first one's ROLLBACK."""
    found = set()
    for _ in range(2):
        with Session(database.engine) as session:
            found.add(session.scalar(text("SELECT :id"), {"id": number}))
    return found.pop() if len(found) == 1 else found


def _last_after_read(database: Database, number: int) -> object:
    """A unit that begins while the ROLLBACK of a read is under way."""
    with Session(database.engine) as session:
        session.scalar(text("SELECT :id"), {"id": number})
    return _last(database, number)


WORKS: tuple[Work, ...] = (_read, _kept, _write, _last, _last_after_read, _batch, _savepoint, _autocommit)
READS = (_read, _kept)
FAULTS = ("cut", "silence", "delay", "error")


@dataclass
class Place:
    """A database of its own behind a network of its own."""

    name: str
    proxy: Proxy
    database: Database
    servers: Servers

    def acting(self, fault: str, size: int) -> Any:
        """The fault, after so many bytes."""
        if fault == "cut":
            return self.proxy.cut_after(size)
        if fault == "silence":
            return self.proxy.silent_after(size)
        act = self._delay if fault == "delay" else self._end_backends
        return self.proxy.interrupted_after(size, act)

    def stored(self, number: int) -> int:
        """Count the stored rows."""
        [(count,)] = self.servers.administer(f"SELECT count(*) FROM notes WHERE id = {number}", self.name)
        return int(count)

    def boundaries(self, work: Work) -> list[int]:
        """The bytes that have passed after each message of the unit, in either direction."""
        with tempfile.TemporaryFile("w+") as trace:
            with self.database.engine.connect() as connection:
                pgconn = connection.connection.driver_connection.pgconn  # type: ignore[union-attr]  # psycopg's
                pgconn.trace(trace.fileno())
                pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
            work(self.database, -1 - WORKS.index(work))
            pgconn.untrace()
            trace.seek(0)
            sizes = [int(line.split("\t")[1]) + 1 for line in trace if line[:2] in {"F\t", "B\t"}]
        return list(itertools.accumulate(sizes, initial=0))

    def leaks(self) -> list[Any]:
        """Connections that are out, and transactions that are open, after a moment to end."""
        found: list[Any] = []
        for _ in range(40):
            found = self.servers.administer(
                "SELECT pid, state, query FROM pg_stat_activity"
                " WHERE state LIKE 'idle in%' AND datname = current_database()",
                self.name,
            )
            if out := self.database.pool_state.checked_out:
                found.append(("checked out", out))
            if not found:
                break
            time.sleep(0.1)
        return found

    async def _delay(self) -> bool:
        await asyncio.sleep(DELAY_SECONDS)
        return True

    async def _end_backends(self) -> bool:
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'"
        await asyncio.to_thread(self.servers.administer, end)
        return True


@contextmanager
def _place(servers: Servers, route: str) -> Iterator[Place]:
    with servers.copy() as name:
        servers.administer("CREATE TABLE notes (id int PRIMARY KEY)", name)
        url = servers.url(route, name)
        assert url.host is not None
        assert url.port is not None
        proxy = Proxy((url.host, url.port))
        with proxy.running():
            text_url = replace(url, host="127.0.0.1", port=proxy.port).render(hide_password=False)
            settings = load_settings(
                DATABASE_URL=text_url,
                DATABASE_URL_UNPOOLED=text_url,
                DATABASE_MODE="direct",
                DATABASE_POOL="tiny",
            )
            database = Database(settings)
            yield Place(name, proxy, database, servers)
            database.close()


def _again(place: Place) -> bool:
    """Return True if the place serves: a connection that has just gone silent may cost one more deadline."""
    for _ in range(2):
        with suppress(Exception), deadline(DEADLINE_SECONDS):
            return _read(place.database, 7) == 7
    return False


def _cell(place: Place, work: Work, fault: str, size: int, number: int) -> tuple[str, str]:
    """The outcome of one cell, and the promise that it broke, if any."""
    assert _again(place)
    begin, answer = time.monotonic(), None
    with place.acting(fault, size):
        try:
            with deadline(DEADLINE_SECONDS):
                answer = work(place.database, number)
            outcome = "acknowledged"
        except Exception as error:  # noqa: BLE001  (classified as a request's would be)
            kind = classify(error)
            outcome = kind.kind.value if kind else type(error).__name__
        seconds = time.monotonic() - begin
    if seconds > DEADLINE_SECONDS + LATE_SECONDS:
        return outcome, f"took {seconds:.1f} s"
    if not _again(place):
        return outcome, "serves no more"
    if leaks := place.leaks():
        return outcome, f"leaked {leaks}"
    stored = place.stored(number)
    if work in READS:
        return outcome, f"answered {answer}" if outcome == "acknowledged" and answer != number else ""
    allowed = {"acknowledged": {1}, Kind.UNKNOWN.value: {0, 1}}.get(outcome, {0})
    return outcome, "" if stored in allowed else f"{outcome}, but stored {stored} times"


@pytest.mark.parametrize("route", ["direct", "pooled"])
def test_after_a_fault_at_any_boundary_what_is_said_is_true(servers: Servers, rows: Rows, route: str) -> None:
    """Acknowledged is stored once, refused is not stored; nothing hangs, nothing leaks."""
    with _places(servers, route) as places:
        first = places.get()
        cells = [(work, fault, size) for work in WORKS for size in first.boundaries(work) for fault in FAULTS]
        places.put(first)
        row = rows(f"table-{route}", len(cells), len(cells[:: len(FAULTS) * 4 + 1]))
        if SHORT:
            cells = cells[:: len(FAULTS) * 4 + 1]
        outcomes: Counter[str] = Counter()

        def tried(numbered: tuple[int, tuple[Work, str, int]]) -> None:
            number, (work, fault, size) = numbered
            place = places.get()
            try:
                outcome, broken = _cell(place, work, fault, size, number)
                outcomes[f"{fault}: {outcome}"] += 1
                row.count(not broken, f"{work.__name__}, {fault} after {size} bytes: {broken}")
            finally:
                places.put(place)

        with ThreadPoolExecutor(WORKERS) as threads:
            list(threads.map(tried, enumerate(cells, 1)))
    row.note = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    row.check()


@contextmanager
def _places(servers: Servers, route: str) -> Iterator[Queue[Place]]:
    with ExitStack() as stack:
        queue: Queue[Place] = Queue()
        for _ in range(WORKERS):
            queue.put(stack.enter_context(_place(servers, route)))
        yield queue
