"""Reads that share connections, with each fault after any number of bytes: all are answered, and rightly."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from tests.faults.promises import SHORT
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import end_backends
from tests.onetrip.shared_reads.concurrent_reads import at_once, in_task, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.onetrip.servers import Servers

AT_ONCE = 8
DEADLINE_SECONDS = 3.0
# An order of magnitude: on a busy machine a new connection takes its time.
LATE_SECONDS = 5.0
DELAY_SECONDS = 0.5
# Silence takes seconds each time.
TRIES = {"silence": 3 if SHORT else 60}
MORE_TRIES = 12 if SHORT else 250
FAULTS = ("cut", "silence", "delay", "error")
ECHO = text("SELECT CAST(:n AS int)")


async def _delay() -> bool:
    await asyncio.sleep(DELAY_SECONDS)
    return True


async def _error(end: Callable[[], None]) -> bool:
    await asyncio.to_thread(end)
    return True


@pytest.fixture
def name(servers: Servers) -> Iterator[str]:
    """A database of this test's own."""
    with servers.copy() as name:
        yield name


@pytest.mark.parametrize("route", ["direct", "pooled"])
@pytest.mark.parametrize("fault", FAULTS)
def test_reads_that_share_connections_do_not_notice_a_fault(
    servers: Servers, name: str, chance: random.Random, route: str, fault: str
) -> None:
    """A cut, silence, a delay or an ended session, anywhere in what passes, costs no read its own answer."""
    url, tries = servers.url(route, name), TRIES.get(fault, MORE_TRIES)
    assert url.port is not None
    with Proxy(("127.0.0.1", url.port)).running() as proxy:
        there = replace(url, port=proxy.port).render(hide_password=False)
        settings = load_settings(
            DATABASE_URL=there,
            DATABASE_URL_UNPOOLED=there,
            DATABASE_MODE="direct",
            DATABASE_SINGLE_FLIGHT="on",
            DATABASE_SHARED_READS="on",
            DATABASE_POOL="server",
        )
        database = Database(settings)
        acts: dict[str, Callable[[int], Any]] = {
            "cut": proxy.cut_after,
            "silence": proxy.silent_after,
            "delay": lambda size: proxy.interrupted_after(size, _delay),
            "error": lambda size: proxy.interrupted_after(
                size, lambda: _error(partial(end_backends, servers, name))
            ),
        }

        async def ask(n: int) -> object:
            return (await in_task(database, ECHO, {"n": n}, seconds=DEADLINE_SECONDS))[0][0] == n

        async def work() -> Counter[object]:
            outcomes: Counter[object] = Counter()
            await at_once(AT_ONCE, 10 * AT_ONCE, ask)
            before = proxy.bytes_passed
            await at_once(AT_ONCE, AT_ONCE, ask)
            size = proxy.bytes_passed - before
            for _ in range(tries):
                begin = time.monotonic()
                with acts[fault](chance.randrange(size)):
                    outcomes += await at_once(AT_ONCE, AT_ONCE, ask)
                assert time.monotonic() - begin < DEADLINE_SECONDS + LATE_SECONDS
                outcomes += await at_once(AT_ONCE, AT_ONCE, ask)
                if fault == "silence":
                    # Connections that are given up have a place until their reads' deadline.
                    await asyncio.sleep(DEADLINE_SECONDS)
            return outcomes

        outcomes = run(database, work)
        database.close()
    assert outcomes == {True: 2 * tries * AT_ONCE}
    left = servers.administer("SELECT query FROM pg_stat_activity WHERE state LIKE 'idle in%'", name)
    assert left == []
