"""Requests are cancelled at random moments: no connection leaks, none stays in a transaction."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from tests.example.conftest import authorization
from tests.onetrip.fault_routes import application as trial_application
from tests.onetrip.fault_routes import posted
from tests.onetrip.network import until

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.faults.conftest import Rows
    from tests.faults.deployment import Application, Deployment
    from tests.onetrip import pgbouncer
    from tests.onetrip.fault_proxy import Proxy

BATCH = 10
POOL = 2
LONGEST_SECONDS = 0.06
SLOW = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION wait();
"""
RESET = struct.pack("ii", 1, 0)


def test_clients_that_hang_up_leave_nothing_behind(  # the pooler counts
    deployment: Deployment,
    application: Application,
    tls_pooler: pgbouncer.PgBouncer,
    rows: Rows,
    chance: random.Random,
) -> None:
    """After each ten of them the process has its two connections, idle, and serves on."""
    row = rows("cancelled-clients", 300, 60)
    deployment.sql(SLOW)
    (person,) = deployment.people()
    for _ in range(row.of // BATCH):
        moments = [chance.uniform(0, LONGEST_SECONDS) for _ in range(BATCH)]
        with ThreadPoolExecutor(BATCH) as clients:
            list(clients.map(lambda moment: _hang_up(application, person, moment), moments))
        until(lambda: deployment.connections("state <> 'idle'") == 0)
        answers = [application.ask("GET", "/api/v1/users/me", user=person) for _ in range(POOL)]
        clients_now = [one for one in tls_pooler.show("CLIENTS") if one["database"] == deployment.database]
        kept = all(answer.status == 200 for answer in answers) and len(clients_now) <= POOL
        for _ in range(BATCH):
            row.count(kept, f"{[*map(str, answers)]}, {len(clients_now)} connections")
    row.check()


def _hang_up(application: Application, person: int, moment: float) -> None:
    """Ask for something, and end the connection with RST after `moment` seconds."""
    body = b'{"title": "t", "content": "x"}'
    head = (
        "POST /api/v1/posts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nAuthorization: {authorization(person)['Authorization']}\r\n\r\n"
    )
    assert application.port is not None
    with socket.create_connection(("127.0.0.1", application.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.sendall(head.encode() + body)
        Event().wait(moment)


def test_requests_that_are_cancelled_leave_nothing_behind(
    deployment: Deployment, network: Proxy, rows: Rows, chance: random.Random
) -> None:
    """Sync or async, reading or writing: afterwards all connections are back in their pools and idle."""
    row = rows("cancelled-tasks", 300, 60)
    database = Database(load_settings(**deployment.variables(network.port)))
    app = trial_application(database)
    app.state.works["it"] = _work
    pools: list[Any] = [database.engine.pool, database.async_engine.pool]

    async def cancelled(number: int) -> None:
        way = ("sync", "async")[number % 2]
        kind = chance.choice(("transaction", "reading"))
        task = asyncio.create_task(posted(app, f"/trial/{way}/{kind}"))
        await asyncio.sleep(chance.uniform(0, LONGEST_SECONDS))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def run() -> None:
        for batch in range(row.of // BATCH):
            await asyncio.gather(*(cancelled(batch * BATCH + number) for number in range(BATCH)))
            await asyncio.to_thread(until, lambda: deployment.connections("state <> 'idle'") == 0)
            statuses = [await posted(app, f"/trial/{way}/reading") for way in ("sync", "async")]
            # A connection that was cancelled in a worker thread is returned once the thread ends.
            is_back = await asyncio.to_thread(_comes_true, lambda: not any(p.checkedout() for p in pools))
            for _ in range(BATCH):
                row.count(is_back and statuses == [200, 200], (batch, statuses, is_back))
        await database.aclose()

    try:
        asyncio.run(run())
    finally:
        database.close()
    row.check()


def _comes_true(condition: Callable[[], bool]) -> bool:
    try:
        until(condition)
    except AssertionError:
        return False
    return True


def _work(session: Session) -> object:
    return session.scalar(text("SELECT 1 FROM pg_sleep(0.01)"))
