"""Idioms at random, at once, cancelled and cut off: each 2xx is stored once, and nothing else is."""

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2 as httpx
import pytest
from fastapi import FastAPI

from lib.onetrip.fastapi.installation import install
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from tests.idioms.conftest import add_good_routes
from tests.idioms.fuzz_routes import IDIOMS, Idiom, add_routes
from tests.onetrip.fault_proxy import Proxy

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

# `make faults` asks for 20,000.
REQUESTS = int(os.environ.get("IDIOM_REQUESTS", "300"))
SEED = int(os.environ.get("FAULTS_SEED", "20261125"))
AT_ONCE = 12
SHARE_CANCELLED = 0.15
REQUESTS_A_FAULT = 60
GOOD_REQUESTS = 100


def _stop_briefly(proxy: Proxy) -> None:
    with proxy.down():
        proxy.hang_up()
        time.sleep(0.05)


# The network cuts every connection, the server ends every connection, and the server is gone for a moment.
FAULTS = [Proxy.reset, Proxy.hang_up, _stop_briefly]


@dataclass
class Outcome:
    """All requests by name: their idiom, and their status, None if they were cancelled."""

    statuses: dict[str, tuple[Idiom, int | None]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)


@pytest.fixture(params=["direct", "pooled"])
def cut_off(
    request: pytest.FixtureRequest, servers: "Servers", database_name: str
) -> Iterator[tuple[Proxy, Database]]:
    """A database on a pool of two, behind a network that can be cut."""
    assert servers.postgres.port is not None
    port = servers.pooler.port if request.param == "pooled" else servers.postgres.port
    proxy = Proxy(("127.0.0.1", port))
    with proxy.running():
        url = (
            f"postgresql://postgres@127.0.0.1:{proxy.port}/{database_name}?sslmode=disable&gssencmode=disable"
        )
        given = {"DATABASE_URL": url, "DATABASE_URL_UNPOOLED": url, "DATABASE_MODE": request.param}
        database = Database(load_settings(**given, DATABASE_POOL="tiny", ENVIRONMENT="development"))
        yield proxy, database
        database.close()


# Threads and cursors warn of the work that a cancellation cut off.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_every_success_is_stored_once_and_nothing_else(
    cut_off: tuple[Proxy, Database],
    servers: "Servers",
    database_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Through cancellations, resets and stops; then the pool is whole and a hundred requests are served."""
    caplog.set_level(logging.ERROR, logger="lib.onetrip")
    proxy, database = cut_off
    app = FastAPI()
    install(app, database)
    add_routes(app, database)
    add_good_routes(app)
    outcome = asyncio.run(_requests(app, proxy, database))
    rows = Counter(name for (name,) in servers.administer("SELECT name FROM parts", database_name))
    assert _wrong(outcome, rows) == []
    succeeded = sum(status == 200 for _, status in outcome.statuses.values())
    assert succeeded > REQUESTS / 3


def _wrong(outcome: Outcome, rows: Counter[str]) -> list[str]:
    wrong = []
    expected: Counter[str] = Counter()
    for name, (idiom, status) in outcome.statuses.items():
        own = {*idiom.rows(name)}
        if status == 200:
            due = own - {*idiom.later(name)}
            wrong += [f"{idiom.path} {row}: 200, stored {rows[row]} times" for row in due if rows[row] != 1]
            if not idiom.succeeds:
                wrong.append(f"{idiom.path}: 200")
        elif status is not None and name not in outcome.unknown:
            stays = {*idiom.kept(name)}
            wrong += [f"{idiom.path} {row}: {status}, stored" for row in own - stays if rows[row]]
        wrong += [f"{idiom.path} {row}: stored {rows[row]} times" for row in own if rows[row] > 1]
        expected.update(own)
    return wrong + [f"{row}: from nowhere" for row in rows if row not in expected]


async def _requests(app: FastAPI, proxy: Proxy, database: Database) -> Outcome:
    chance, outcome, places = random.Random(SEED), Outcome(), asyncio.Semaphore(AT_ONCE)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:

        async def one(name: str, idiom: Idiom, cancelled_after: float | None) -> None:
            async with places:
                asked = asyncio.create_task(client.post(idiom.path, params={"name": name}))
                done, _ = await asyncio.wait([asked], timeout=cancelled_after)
                if not done:
                    asked.cancel()
                try:
                    answer = await asked
                except (asyncio.CancelledError, httpx.HTTPError):
                    outcome.statuses[name] = (idiom, None)
                    return
                # A stream that was cut off after its first part: the transport does not tell.
                is_cut = idiom.path.endswith("stream") and answer.text == "1"
                outcome.statuses[name] = (idiom, None if is_cut else answer.status_code)
                if b"outcome-unknown" in answer.content:
                    outcome.unknown.add(name)

        async with asyncio.TaskGroup() as group:
            for number in range(REQUESTS):
                cancelled = chance.random() < SHARE_CANCELLED
                after = chance.uniform(0, 0.03) if cancelled else None
                group.create_task(one(f"n{number}", chance.choice(IDIOMS), after))
                if number % REQUESTS_A_FAULT == REQUESTS_A_FAULT - 1:
                    await asyncio.to_thread(chance.choice(FAULTS), proxy)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0.02)
        await _is_whole(client, database)
    await database.aclose()
    return outcome


async def _is_whole(client: httpx.AsyncClient, database: Database) -> None:
    """Nothing is held once the threads that went on are done, and a hundred requests at once are served."""
    for _ in range(1000):
        if database.limiter.used == 0 and database.pool_watch.checked_out == 0:
            break
        await asyncio.sleep(0.02)
    assert (database.limiter.used, database.limiter.waiting, database.pool_watch.checked_out) == (0, 0, 0)
    paths = ["/good/sync", "/good/async"] * (GOOD_REQUESTS // 2)
    answers = await asyncio.gather(*(client.get(path) for path in paths))
    assert {answer.status_code for answer in answers} == {200}
