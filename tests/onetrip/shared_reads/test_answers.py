"""Each read gets its own answer, with its own caller's settings, whatever happens to the others."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from lib.onetrip.connection.dialect import SETTINGS
from lib.onetrip.connection.single_flight import FlightConnection
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from lib.onetrip.session.shared import sharing
from lib.onetrip.settings.settings import Settings
from tests.onetrip.network import end_backends, until
from tests.onetrip.shared_reads.concurrent_reads import at_once, in_task, in_thread, run

if TYPE_CHECKING:
    from tests.onetrip.fault_proxy import Proxy
    from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

ECHO = text(
    "SELECT CAST(:n AS int) AS n, current_setting('app.caller', true) AS caller, pg_backend_pid() AS pid"
)
REFUSED = text("SELECT 1 / (CAST(:n AS int) - CAST(:n AS int))")


@pytest.fixture
def shared(make_settings: Callable[..., Settings]) -> Iterator[Database]:
    """A database whose reads share connections."""
    database = Database(make_settings(DATABASE_SHARED_READS="on"))
    yield database
    database.close()
    # A thread that opens another line keeps its place until the line is there, and dropped.
    until(lambda: database.limiter.used == 0)


async def echoed(database: Database, n: int) -> str:
    """Tell whether the answer is that of question `n`; every tenth asks without a caller."""
    caller = None if n % 10 == 0 else f"caller-{n}"
    options = {SETTINGS: {"app.caller": caller}} if caller else {}
    if n % 2:
        row = (await in_task(database, ECHO, {"n": n}, options))[0]
    else:
        row = await in_thread(database, lambda session: session.execute(ECHO, {"n": n}).one(), options)
    return "right" if (row.n, row.caller or None) == (n, caller) else "mixed"


def test_each_read_gets_its_own_answer(shared: Database) -> None:
    """Of many reads at once each gets its own row and sees its own caller's settings alone."""

    async def work() -> object:
        outcomes = await at_once(50, 1000, lambda n: echoed(shared, n))
        report = shared.shared_reads.report()
        assert report["sent"] >= 900
        assert 1 <= report["lines"] <= 4
        return outcomes

    assert run(shared, work) == {"right": 1000}


def test_a_crowd_of_async_sessions_begins_to_share(shared: Database) -> None:
    """Also where all places are taken and waited for from the first moment on."""

    async def work() -> object:
        try:
            outcomes = await at_once(20, 400, lambda n: echoed(shared, n | 1))
            assert shared.shared_reads.report()["sent"] >= 200
        finally:
            shared.shared_reads.close()
            await asyncio.sleep(0)
        return outcomes

    assert asyncio.run(work()) == {"right": 400}


def test_refused_and_cancelled_reads_leave_others_alone(shared: Database) -> None:
    """Errors reach the reads that caused them, and cancelled reads leave nothing behind."""

    async def ask(n: int) -> str:
        if n % 11 == 0:
            await in_task(shared, REFUSED, {"n": n})
        if n % 7 == 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    return await echoed(shared, n | 1)
            return "cancelled"
        return await echoed(shared, n)

    async def work() -> object:
        outcomes = await at_once(50, 1000, ask)
        assert shared.shared_reads.report()["lost_lines"] == 0
        return outcomes

    outcomes = run(shared, work)
    assert outcomes.pop("22012") == 91
    assert set(outcomes) <= {"right", "cancelled"}


def test_foreign_answers_are_noticed(shared: Database) -> None:
    """An answer to another client's question, as an old pooler may deliver it, reaches no read."""

    async def ask(n: int) -> str:
        if n % 50 == 1:
            for line in shared.shared_reads.here()[0].lines:
                line.connection.pgconn.send_query_params(
                    b"SELECT 0 AS n, 'foreign' AS caller, 0 AS pid", None
                )
                line.connection.pgconn.pipeline_sync()
        return await echoed(shared, n)

    async def work() -> object:
        outcomes = await at_once(50, 1000, ask)
        assert shared.shared_reads.report()["out_of_step"] >= 1
        return outcomes

    assert run(shared, work) == {"right": 1000}


def test_killed_backends(shared: Database, servers: Servers, database_name: str) -> None:
    """Reads whose connection ends are asked again: none is mixed up, none is waited for in vain."""
    number = int(os.environ.get("SHARED_READS_ANSWERS", "2000"))

    async def work() -> object:
        async def ask(n: int) -> str:
            if n % 100 == 0:
                # Among 49 others, which are under way.
                await asyncio.to_thread(end_backends, servers, database_name)
            if n % 20 == 0:
                await in_task(shared, REFUSED, {"n": n})
            if n % 21 == 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.005):
                        return await echoed(shared, n | 1)
                return "cancelled"
            return await echoed(shared, n | 1)

        outcomes = await at_once(50, number, ask)
        assert shared.shared_reads.report()["lost_lines"] >= 1
        return outcomes

    outcomes = run(shared, work)
    assert outcomes["mixed"] == 0
    assert outcomes["57014"] == 0
    # Of 105 reads ten are refused or cancelled on purpose.
    accounted = outcomes["right"] + outcomes["cancelled"] + outcomes["22012"]
    assert accounted >= 0.98 * number, outcomes


def test_a_slow_read_among_fast_ones(shared: Database) -> None:
    """Reads do not wait for a slow one that was sent ahead of them."""

    async def work() -> str:
        await at_once(10, 50, lambda n: echoed(shared, n | 1))
        slow = asyncio.create_task(in_task(shared, text("SELECT pg_sleep(60)"), {}, seconds=90.0))
        await asyncio.sleep(0)
        outcomes = await at_once(10, 50, lambda n: echoed(shared, n | 1))
        assert not slow.done()
        slow.cancel()
        with suppress(asyncio.CancelledError):
            await slow
        return str(dict(outcomes))

    assert run(shared, work) == "{'right': 50}"


def test_writes_are_refused(shared: Database) -> None:
    """A shared read cannot write, by a function or a statement."""

    async def work() -> object:
        write = text("WITH w AS (INSERT INTO authors (name, email) VALUES ('a', 'b') RETURNING id) TABLE w")
        return await at_once(2, 4, lambda _: in_task(shared, write, {}))

    assert run(shared, work) == {"25006": 4}


def test_own_connections(shared: Database) -> None:
    """Streams, kept connections and the driver's connection are the session's own."""

    def query(session: Session) -> object:
        streamed = session.execute(text("SELECT 1"), execution_options={"yield_per": 1}).scalars().all()
        session.close()
        driver = session.connection().connection.driver_connection
        return (streamed, isinstance(driver, FlightConnection), session.execute(text("SELECT 2")).scalar())

    async def work() -> object:
        before = shared.shared_reads.report()["sent"]
        found = await in_thread(shared, query)
        assert shared.shared_reads.report()["sent"] == before
        return found

    assert run(shared, work) == ([1], True, 2)


def test_row_level_security(shared: Database, servers: Servers, database_name: str) -> None:
    """Callers whose rights are settings and a role see their own rows alone, on shared connections."""
    for statement in (
        "DO $$ BEGIN CREATE ROLE shared_caller; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "CREATE TABLE owned (owner text)",
        "INSERT INTO owned SELECT 'caller-' || n FROM generate_series(0, 9) n",
        "ALTER TABLE owned ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON owned USING (owner = current_setting('app.caller', true))",
        "GRANT SELECT ON owned TO shared_caller",
    ):
        servers.administer(statement, database_name)

    async def ask(n: int) -> str:
        settings = {"role": "shared_caller", "app.caller": f"caller-{n % 10}"}
        rows = await in_task(shared, text("SELECT owner FROM owned"), {}, {SETTINGS: settings})
        return "own" if [row.owner for row in rows] == [f"caller-{n % 10}"] else "others'"

    async def work() -> object:
        return await at_once(50, 500, ask)

    assert run(shared, work) == {"own": 500}


def test_silence_ends_with_the_deadline(
    proxied_settings: Callable[..., Settings], proxy: Proxy, route: str
) -> None:
    """Reads on a network that falls silent end with their deadlines, and later ones are answered."""
    assert route
    database = Database(proxied_settings(DATABASE_SHARED_READS="on"))

    async def ask(n: int) -> object:
        return (await in_task(database, text("SELECT CAST(:n AS int)"), {"n": n}, seconds=1.0))[0][0] == n

    async def work() -> object:
        assert await at_once(10, 100, ask) == {True: 100}
        begin = time.monotonic()
        with proxy.silence():
            silent = await at_once(10, 10, ask)
        seconds = time.monotonic() - begin
        assert silent[True] == 0
        assert seconds < 10
        return await at_once(10, 100, ask)

    assert run(database, work)[True] >= 90
    database.close()


def test_a_loop_that_ends_while_a_line_opens(proxied_settings: Callable[..., Settings], proxy: Proxy) -> None:
    """The connection that the thread still makes is closed, and its place given back."""
    database = Database(proxied_settings(DATABASE_SHARED_READS="on"))

    async def work() -> None:
        with sharing(database), sharing(database):
            asking = asyncio.create_task(in_task(database, ECHO, {"n": 1}))
            await asyncio.sleep(0.1)
            asking.cancel()

    with reading(database) as session:
        session.scalar(text("SELECT 1"))
    proxy.latency_seconds = 0.1
    database.engine.dispose()
    asyncio.run(work())
    until(lambda: database.limiter.used == 0)
    until(lambda: proxy.open_connections == 0)
    database.close()
