"""Many instances of a function on few server connections of a pooler, all of them busy."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lib.onetrip.connection.protocol import Message
from lib.onetrip.deadlines import Deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip import pgbouncer

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_flight")]

INSTANCES = 100
AT_ONCE = 5
SERVER_CONNECTIONS = 5
# Long enough that the server has always more to do, and this process little.
WORK = Message(b"SELECT pg_sleep(0.02)")
WARMING_SECONDS = 5.0
SECONDS = 20.0


@pytest.fixture
def narrow_pooler(servers: Servers) -> Iterator[pgbouncer.PgBouncer]:
    """A PgBouncer with few connections to the server."""
    folder = Path(tempfile.mkdtemp(prefix="onetrip-narrow-"))
    folder.chmod(0o755)
    settings = {"default_pool_size": str(SERVER_CONNECTIONS)}
    pooler = pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, settings)
    with pgbouncer.running(pooler):
        yield pooler
    shutil.rmtree(folder)


def test_no_instance_is_starved(narrow_pooler: pgbouncer.PgBouncer, database_name: str) -> None:
    """Of 100 busy instances on 5 server connections the least served has a third of the median's answers."""
    settings = load_settings(
        DATABASE_URL=narrow_pooler.url(database_name).render(),
        DATABASE_MODE="pooled",
        DATABASE_SHARED_READS="on",
        DATABASE_POOL="tiny",
    )
    databases = [Database(settings) for _ in range(INSTANCES)]
    answers = [0] * INSTANCES
    failed: list[BaseException] = []

    async def client(instance: int) -> None:
        hub, _ = databases[instance].shared_reads.here()
        while True:
            try:
                await hub.answer([WORK], Deadline.after(60), lambda *_: None)
            except Exception as error:  # noqa: BLE001  (counted)
                failed.append(error)
            else:
                answers[instance] += 1

    async def work() -> None:
        clients = [asyncio.create_task(client(n)) for n in range(INSTANCES) for _ in range(AT_ONCE)]
        await asyncio.sleep(WARMING_SECONDS)
        answers[:] = [0] * INSTANCES
        await asyncio.sleep(SECONDS)
        counted = list(answers)
        for task in clients:
            task.cancel()
        for task in clients:
            with suppress(asyncio.CancelledError):
                await task
        for database in databases:
            database.shared_reads.close()
        await asyncio.sleep(0)
        answers[:] = counted

    asyncio.run(work())
    for database in databases:
        database.close()
    least, median, most = min(answers), statistics.median(answers), max(answers)
    print(f"\nanswers of an instance: least {least}, median {median}, most {most}, all {sum(answers)}")
    assert not failed
    assert least >= median / 3 > 0
