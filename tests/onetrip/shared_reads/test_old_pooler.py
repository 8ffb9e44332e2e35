"""What a pooler older than PgBouncer 1.22.1 does with the answers of a process that is killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip import pgbouncer
from tests.onetrip.environment import PROJECT

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


@pytest.fixture
def other(one_connection: pgbouncer.PgBouncer, database_name: str) -> Iterator[Database]:
    """Another process: its sessions have connections of their own, and look for no numbers."""
    url = one_connection.url(database_name).render()
    database = Database(load_settings(DATABASE_URL=url, DATABASE_MODE="pooled"))
    yield database
    database.close()


def _go_between_answers(pooler: pgbouncer.PgBouncer, database_name: str, *, flushes: bool) -> None:
    """Two questions sent, one answered, and gone."""
    arguments: Any = pooler.url(database_name).connect_arguments()
    connection = psycopg.connect(**arguments, autocommit=True)
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    for statement in (b"SELECT -1", b"SELECT -2, pg_sleep(0.2)"):
        pgconn.send_query_params(b"SELECT set_config('statement_timeout', '1000', true)", None)
        if flushes:
            pgconn.send_flush_request()
        pgconn.send_query_params(statement, None)
        pgconn.pipeline_sync()
    pgconn.flush()
    time.sleep(0.08)
    pgconn.finish()
    connection.close()


def _is_wrong(database: Database, n: int) -> bool:
    try:
        with deadline(5), reading(database) as session:
            return bool(session.scalar(text("SELECT CAST(:n AS int)"), {"n": n}) != n)
    except DBAPIError:
        # Noticed by chance: the foreign answer came in parts.
        return True


@pytest.mark.parametrize("flushes", [False, True])
def test_an_old_pooler_gives_the_answers_of_the_killed_to_others(
    one_connection: pgbouncer.PgBouncer,
    other: Database,
    database_name: str,
    flushes: bool,  # noqa: FBT001
) -> None:
    """Before PgBouncer 1.22.1 the next session has another's answer, unless first messages are answered."""
    wrong = 0
    for n in range(TRIES):
        _go_between_answers(one_connection, database_name, flushes=flushes)
        wrong += _is_wrong(other, n)
    is_old = tuple(map(int, pgbouncer.version().split("."))) < MENDED
    print(f"\nPgBouncer {pgbouncer.version()}: {wrong} of {TRIES} answers were another client's")
    assert (wrong > 0) == (is_old and not flushes)


def test_a_process_that_shares_reads_leaves_no_answers_behind(
    one_connection: pgbouncer.PgBouncer, other: Database, database_name: str
) -> None:
    """It is killed between two answers, behind any pooler."""
    command = [sys.executable, "-m", "tests.onetrip.shared_reads.killed_process"]
    wrong = 0
    for n in range(TRIES):
        subprocess.run([*command, one_connection.url(database_name).render()], cwd=PROJECT, check=True)
        wrong += _is_wrong(other, n)
    assert wrong == 0
