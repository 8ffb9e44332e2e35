"""The reason why shared reads are off by default: what an old pooler does to everybody else."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip import pgbouncer

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_flight")]

MENDED = (1, 22, 1)
TRIES = 10


@pytest.fixture
def one_connection(servers: Servers) -> Iterator[pgbouncer.PgBouncer]:
    """A PgBouncer with one connection to the server, so that the next client gets the last one's."""
    folder = Path(tempfile.mkdtemp(prefix="onetrip-one-"))
    folder.chmod(0o755)
    settings = {"default_pool_size": "1"}
    pooler = pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, settings)
    with pgbouncer.running(pooler):
        yield pooler
    shutil.rmtree(folder)


def _hang_up_between_answers(pooler: pgbouncer.PgBouncer, database_name: str) -> None:
    """What a process that shares reads does when it is killed: two reads sent, one answered, and gone."""
    arguments: Any = pooler.url(database_name).connect_arguments()
    connection = psycopg.connect(**arguments, autocommit=True)
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    for statement in (b"SELECT -1", b"SELECT -2, pg_sleep(0.2)"):
        pgconn.send_query_params(b"SELECT set_config('statement_timeout', '1000', true)", None)
        pgconn.send_query_params(statement, None)
        pgconn.pipeline_sync()
    pgconn.flush()
    time.sleep(0.08)
    pgconn.finish()
    connection.close()


def test_an_old_pooler_gives_the_answers_of_the_killed_to_others(
    one_connection: pgbouncer.PgBouncer, database_name: str
) -> None:
    """Before PgBouncer 1.22.1 a session on a connection of its own is given another client's answer."""
    url = one_connection.url(database_name).render()
    database = Database(load_settings(DATABASE_URL=url, DATABASE_MODE="pooled"))
    wrong = 0
    for n in range(TRIES):
        _hang_up_between_answers(one_connection, database_name)
        with deadline(5), reading(database) as session:
            wrong += session.scalar(text("SELECT CAST(:n AS int)"), {"n": n}) != n
    database.close()
    is_old = tuple(map(int, pgbouncer.version().split("."))) < MENDED
    print(f"\nPgBouncer {pgbouncer.version()}: {wrong} of {TRIES} answers were another client's")
    assert (wrong > 0) == is_old
