"""A client that is lost while its statement follows a late ROLLBACK leaves no answer behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.orm import Session

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip import pgbouncer
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import until

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

# Each way: long enough for a statement to leave while the answer to the ROLLBACK is under way.
LATENCY_SECONDS = 0.2
SLOW = text("SELECT pg_sleep(3), 'of the lost client'")
SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"


@pytest.fixture
def pooler(servers: Servers) -> Iterator[pgbouncer.PgBouncer]:
    """A pooler with one connection to the server: the next client gets the one that the last one left."""
    with TemporaryDirectory(prefix="onetrip-lost-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings = {"default_pool_size": "1"}
        pooler = pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, settings)
        with pgbouncer.running(pooler):
            yield pooler


@pytest.mark.usefixtures("in_flight")
def test_the_next_client_gets_its_own_answer(
    pooler: pgbouncer.PgBouncer, servers: Servers, database_name: str
) -> None:
    """The statement is at work on the server when its client is reset."""
    url = pooler.url(database_name)

    def work(database: Database) -> None:
        with Session(database.engine) as session:
            session.scalar(text("SELECT 1"))
        with Session(database.engine) as session, pytest.raises(exc.OperationalError):
            session.execute(SLOW)

    with Proxy(("127.0.0.1", pooler.port)).running() as proxy:
        address = replace(url, port=proxy.port).render(hide_password=False)
        database = Database(load_settings(DATABASE_URL=address, DATABASE_MODE="direct"))
        with Session(database.engine) as session:
            session.scalar(text("SELECT 1"))
        proxy.latency_seconds = LATENCY_SECONDS
        lost = Thread(target=work, args=[database])
        lost.start()
        until(lambda: servers.administer(SLEEPS, database_name) == [(1,)])
        # All that was sent has passed by now, in both directions.
        time.sleep(3 * LATENCY_SECONDS)
        proxy.reset()
        lost.join()
        database.close()
    with psycopg.connect(**url.connect_arguments()) as other:  # type: ignore[arg-type]
        assert other.execute("SELECT 'of its own'").fetchall() == [("of its own",)]
