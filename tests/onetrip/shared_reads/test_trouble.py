"""Reads of every kind while connections end in every way: no answer is another's, late, or missing."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip import pgbouncer
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import until
from tests.onetrip.shared_reads.concurrent_reads import run
from tests.onetrip.shared_reads.questions import Outcomes, Questions, make_owners
from tests.onetrip.shared_reads.trouble import Trouble

if TYPE_CHECKING:
    from tests.onetrip.conftest import Certificates
    from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

ANSWERS = int(os.environ.get("SHARED_READS_ANSWERS", "4000"))
AT_ONCE = 50
IS_LONG = ANSWERS >= 10_000
# In the short form each fault comes a few times all the same.
EVERY_SECONDS = 1.5 if IS_LONG else 0.4
# One in ten thousand, beside those whose fault it was. In the short form faults are several times as dense,
# and a read whose connection is lost twice fails.
MOST_FAILED = ANSWERS // 10_000 if IS_LONG else 10


@pytest.fixture
def pooler(servers: Servers, route: str) -> Iterator[pgbouncer.PgBouncer | None]:
    """A PgBouncer that tries again soon where a server's process ended while it logged in."""
    if route == "direct":
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="onetrip-trouble-"))
    folder.chmod(0o755)
    settings = {"server_login_retry": "0.2"}
    pooler = pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, settings)
    with pgbouncer.running(pooler):
        yield pooler
    shutil.rmtree(folder)


@pytest.fixture
def network(
    servers: Servers, pooler: pgbouncer.PgBouncer | None, certificates: Certificates
) -> Iterator[Proxy]:
    """A network that ends TLS itself, so that it can say what a server says."""
    port = pooler.port if pooler else servers.postgres.port
    assert port is not None
    with Proxy(("127.0.0.1", port), certificates.context()).running() as proxy:
        yield proxy


@pytest.fixture
def shared(
    network: Proxy, database_name: str, certificates: Certificates, servers: Servers, route: str
) -> Iterator[Database]:
    """A database whose reads share connections, behind that network."""
    parameters = {"sslrootcert": str(certificates.authority), "gssencmode": "disable"}
    url = replace(servers.url(route, database_name), port=network.port, parameters=parameters).render()
    variables = {"DATABASE_URL": url, "DATABASE_URL_UNPOOLED": url, "DATABASE_MODE": route}
    fixed = {"DATABASE_SHARED_READS": "on", "DATABASE_SINGLE_FLIGHT": "on", "DATABASE_TLS": "verify-full"}
    # Where nothing listens to statements, compiled queries are sent without SQLAlchemy's execution.
    database = Database(load_settings(**variables, **fixed, ENVIRONMENT="production"))
    yield database
    database.close()


def test_every_read_gets_its_own_answer_in_time(
    shared: Database,
    network: Proxy,
    pooler: pgbouncer.PgBouncer | None,
    servers: Servers,
    database_name: str,
) -> None:
    """Under every fault at once no answer is mixed up, late or missing, and hardly any read fails."""
    make_owners(servers, database_name)
    chance = random.Random(os.environ.get("FAULTS_SEED", "shared reads"))
    questions = Questions(shared, chance)
    trouble = Trouble(network, servers, database_name, pooler, EVERY_SECONDS, chance)
    report: dict[str, int] = {}

    async def work() -> Outcomes:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(40))
        numbers = iter(range(ANSWERS))

        async def one() -> None:
            for n in numbers:
                await questions.ask(n)

        beside = [asyncio.create_task(trouble.go_on()), asyncio.create_task(questions.watch())]
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        report.update(shared.shared_reads.report())
        return questions.outcomes

    begin = time.monotonic()
    outcomes: Outcomes = run(shared, work)
    print(f"\n{outcomes}\n{dict(trouble.counts)}\n{report}\n{time.monotonic() - begin:.0f} s")
    assert outcomes.mixed == [], outcomes
    assert outcomes.late == [], outcomes
    assert outcomes.hung == [], outcomes
    assert len(outcomes.failed) <= MOST_FAILED, outcomes
    assert report["lost_lines"] > 0
    assert report["under_way"] == 0
    until(lambda: shared.limiter.used == 0)
