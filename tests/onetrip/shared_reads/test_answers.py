"""Each read gets its own answer, with its own caller's settings, whatever happens to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from sqlalchemy import text

from lib.onetrip.connection.dialect import SETTINGS
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings
from tests.onetrip.shared_reads.crowd import at_once, in_task, in_thread, run

ECHO = text("SELECT CAST(:n AS int) AS n, current_setting('app.caller', true) AS caller, pg_backend_pid() AS pid")
REFUSED = text("SELECT 1 / (CAST(:n AS int) - CAST(:n AS int))")


@pytest.fixture
def shared(make_settings: Callable[..., Settings]) -> Iterator[Database]:
    """A database whose reads share connections."""
    database = Database(make_settings(DATABASE_SHARED_READS="on"))
    yield database
    database.close()
    assert database.limiter.used == 0


async def echoed(database: Database, n: int) -> str:
    """Whether the answer is that of question `n`; every tenth asks without a caller."""
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
