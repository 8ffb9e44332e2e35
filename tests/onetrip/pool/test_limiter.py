"""Concurrent clients of one process: a tiny pool serves all, or rejects in time, and delays no others."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from threading import Event, Thread
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text

from lib.onetrip.pool.database import database
from lib.onetrip.settings.settings import environment_with
from lib.onetrip.testing.databases import free_port
from tests.onetrip.environment import PROJECT
from tests.onetrip.fault_routes import application
from tests.onetrip.network import until

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy.orm import Session

    from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

CROWD = 50
POOL = 2
# That many worker threads a process has for sync routes.
THREADS = 40
# More than fifty requests of a tenth of a second take, two at a time, and less than for ever.
BOUND_SECONDS = 20.0


def served() -> FastAPI:
    """The application of the process that these tests start."""
    app = application(database())
    app.state.works = {"briefly": _holding(0.1), "long": _holding(3), "until allowed": _until_allowed}

    @app.get("/trial/waiting")
    async def waiting() -> int:
        return database().limiter.waiting

    return app


def _holding(seconds: float) -> Callable[[Session], object]:
    def hold(session: Session) -> int:
        session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
        return 1

    return hold


def _until_allowed(session: Session) -> int:
    session.execute(text("SELECT pg_advisory_xact_lock_shared(7)"))
    return 1


@dataclass(frozen=True)
class Reply:
    """The answer to one of many clients, and its seconds of waiting."""

    status: int
    body: bytes
    retry_after: str | None
    seconds: float


@dataclass(frozen=True)
class Process:
    """A process that serves the application."""

    port: int

    def ask(self, path: str, method: str = "POST") -> Reply:
        """One request on a connection of its own."""
        begin = time.monotonic()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=BOUND_SECONDS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        return Reply(response.status, body, response.headers["Retry-After"], time.monotonic() - begin)

    @contextmanager
    def crowded(self, path: str, size: int = CROWD) -> Iterator[list[Future[Reply]]]:
        """Concurrent requests for `path`."""
        with ThreadPoolExecutor(size) as clients:
            yield [clients.submit(self.ask, path) for _ in range(size)]


@pytest.fixture
def start(servers: Servers, database_name: str, route: str) -> Iterator[Callable[..., Process]]:
    """Start a process with a pool of two, with further variables by keyword."""
    processes: list[subprocess.Popen[bytes]] = []
    urls = {
        "DATABASE_URL": servers.url("pooled", database_name).render(),
        "DATABASE_URL_UNPOOLED": servers.url("direct", database_name).render(),
    }

    def start(**variables: str) -> Process:
        process = Process(free_port())
        uvicorn = ["uvicorn", "--factory", "--log-level", "error", "--port", str(process.port)]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", *uvicorn, f"{__name__}:{served.__name__}"],
                env=environment_with(**urls, DATABASE_MODE=route, **{"DATABASE_POOL": "tiny", **variables}),
                cwd=PROJECT,
            )
        )
        until(lambda: _is_up(process))
        return process

    yield start
    for process in processes:
        process.terminate()
        process.wait()


@pytest.fixture
def most_connections(servers: Servers, database_name: str) -> Iterator[Callable[[], int]]:
    """The most connections that the server saw at once on this test's database."""
    seen, done = [0], Event()

    def watch() -> None:
        arguments = servers.url("direct").connect_arguments()
        with psycopg.connect(**arguments, autocommit=True) as connection:  # type: ignore[arg-type]
            while not done.wait(0.01):
                count = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = %s"
                row = connection.execute(count, [database_name, "onetrip"]).fetchone()
                assert row is not None
                seen.append(row[0])

    watcher = Thread(target=watch)
    watcher.start()
    yield lambda: max(seen)
    done.set()
    watcher.join()


@pytest.fixture
def forbidden(servers: Servers, database_name: str) -> Iterator[ExitStack]:
    """Keeps the work `until allowed` waiting until this is closed."""
    arguments = servers.url("direct", database_name).connect_arguments()
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(**arguments))  # type: ignore[arg-type]
        connection.execute("SELECT pg_advisory_xact_lock(7)")
        yield stack


@pytest.mark.parametrize("pool", ["tiny", "null"])
@pytest.mark.parametrize("path", ["sync/transaction", "async/reading"])
def test_a_crowd_is_served_by_two_connections(
    start: Callable[..., Process], most_connections: Callable[[], int], path: str, pool: str
) -> None:
    """Fifty at once: all are served, two by two, and the server sees no third, kept or not."""
    process = start(DATABASE_POOL=pool)
    with process.crowded(f"/trial/{path}?work=briefly") as replies:
        pass
    assert [reply.result().status for reply in replies] == [200] * CROWD
    # Without a pool one that ends may still be seen beside the one that follows.
    assert POOL <= most_connections() <= (POOL if pool == "tiny" else 2 * POOL)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_crowd_holds_up_nobody_who_needs_no_connection(
    start: Callable[..., Process], forbidden: ExitStack, way: str
) -> None:
    """While others wait for two connections, every other route answers, sync ones in their threads too."""
    process = start(DATABASE_POOL_TIMEOUT="60", REQUEST_TIMEOUT_SECONDS="60")
    # Twice as many as there are threads: if those who wait held one each, none would be left.
    with process.crowded(f"/trial/{way}/transaction?work=until%20allowed", 2 * THREADS) as replies, forbidden:
        until(lambda: process.ask("/trial/waiting", "GET").body == b"%d" % (2 * THREADS - POOL))
        others = [process.ask("/health/live", "GET"), process.ask("/trial/sync/nothing")]
        assert not any(reply.done() for reply in replies)
    assert [other.status for other in others] == [200, 200]
    assert [reply.result().status for reply in replies] == [200] * len(replies)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_crowd_that_finds_no_place_is_turned_away_in_time(start: Callable[..., Process], way: str) -> None:
    """If requests hold their connections for long, others get `Retry-After`, and succeed later."""
    process = start(DATABASE_POOL_TIMEOUT="1")
    with process.crowded(f"/trial/{way}/transaction?work=long") as waiting:
        until(lambda: any(reply.done() for reply in waiting))
        assert process.ask("/health/live", "GET").status == 200
    replies = [reply.result() for reply in waiting]
    turned_away = [reply for reply in replies if reply.status == 503]
    assert {reply.status for reply in replies} == {200, 503}
    assert len(turned_away) > CROWD / 2
    assert {reply.retry_after for reply in turned_away} == {"1"}
    assert max(reply.seconds for reply in replies) < BOUND_SECONDS
    assert process.ask(f"/trial/{way}/transaction?work=briefly").status == 200


def _is_up(process: Process) -> bool:
    try:
        return process.ask("/health/live", "GET").status == 200
    except ConnectionError:
        return False
