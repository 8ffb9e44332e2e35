"""Real servers for each worker, a fresh database for each test, reached directly and through the pooler."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.application import create_app
from dev.postgres.server import LocalPostgres
from dev.postgres.server import running as postgres_running
from lib.onetrip.pool.database import Database, reset
from lib.onetrip.settings.settings import Settings, environment_with, load_settings
from lib.onetrip.url.database_url import DatabaseURL
from tests import pgbouncer

PROJECT = Path(__file__).parent.parent
ROUTES = ("direct", "pooled")
# Of the caller's settings only this one holds for the tests: `make test-plain` sets it.
SINGLE_FLIGHT = os.environ.get("DATABASE_SINGLE_FLIGHT", "on")
# How the names of our settings and our platforms' variables begin.
OURS = (
    *("DATABASE_", "POSTGRES_", "NEON_", "DB_", "PG", "ENVIRONMENT", "OPS_", "JWT_", "SLOW_", "CONNECTION_"),
    *("VERCEL", "AWS_"),
)
TEMPLATE = "migrated"
TABLES = "users, login_attempts, posts, tags, tasks, task_tags, accounts, transfers"
# As good as random, for the tests that sign tokens themselves.
JWT_SECRET_KEY = "k7Qw2mZp9Xv4Tn8Rb1Yc6Hs3Jd5Lf0Ga"
# Durability costs time, and no test here pulls the plug.
POSTGRES_SETTINGS = {
    "max_connections": "104",
    "max_prepared_transactions": "4",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
}


SCHEMA = """
    SELECT relname, relkind::text, relnatts, relchecks, relhastriggers FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT conname, 'c', 0, 0, false FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT proname, 'f', 0, 0, false FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT array_to_string(setconfig, ','), 's', 0, 0, false FROM pg_db_role_setting
        JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database()
    ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Servers:
    """A PostgreSQL and the PgBouncer in front of it."""

    postgres: LocalPostgres
    pooler: pgbouncer.PgBouncer

    def url(self, route: str, database: str = "postgres") -> DatabaseURL:
        """The URL of a database by `route`: direct (TCP, without the pooler) or pooled."""
        if route == "pooled":
            return self.pooler.url(database)
        return DatabaseURL(user="postgres", host="127.0.0.1", port=self.postgres.port, database=database)

    def administer(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside any transaction, as the superuser; return its rows."""
        arguments: Any = self.url("direct", database).connect_arguments()
        with psycopg.connect(**arguments, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def schema(self, database: str) -> list[tuple[Any, ...]]:
        """What a test could have left in a database beside rows."""
        return self.administer(SCHEMA, database)

    def empty(self, database: str) -> None:
        """Remove all rows, and whatever the pooler keeps of the sessions there were."""
        self.administer(f"TRUNCATE {TABLES} RESTART IDENTITY", database)
        self.pooler.command(f"RECONNECT {database}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fetch what is missing once, before the workers start."""
    if not hasattr(session.config, "workerinput"):
        pgbouncer.install()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests here wait about as long as they compute."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal() -> None:
    """What tests start takes signals as in a terminal: `nohup` and a shell's background ignore some."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as on both platforms."""
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """One PostgreSQL and one PgBouncer for each worker, gone without a trace afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-"))
    # The servers may run as another user than root, who must be able to get there.
    folder.chmod(0o755)
    try:
        postgres = LocalPostgres(folder / "postgres", port=free_port(), settings=POSTGRES_SETTINGS)
        with postgres_running(postgres):
            server = DatabaseURL(host="127.0.0.1", port=postgres.port)
            pooler = pgbouncer.PgBouncer(folder / "pgbouncer", free_port(), server)
            with pgbouncer.running(pooler):
                yield Servers(postgres, pooler)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a database with the newest schema and no rows."""
    servers.administer(f"CREATE DATABASE {TEMPLATE}")
    alembic(servers.url("direct", TEMPLATE), "upgrade", "head")
    return TEMPLATE


@pytest.fixture
def database_name(servers: Servers, template: str) -> Iterator[str]:
    """A database of this test's own."""
    name = f"test_{uuid4().hex}"
    servers.administer(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield name
    servers.administer(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    """Each test that reaches the database does so directly and through the pooler."""
    route: str = request.param
    return route


@pytest.fixture
def make_settings(servers: Servers, database_name: str, route: str) -> Callable[..., Settings]:
    """Settings on this test's database and route, with further variables by keyword."""

    def make(**variables: object) -> Settings:
        urls = {
            "DATABASE_URL": servers.url("pooled", database_name).render(),
            "DATABASE_URL_UNPOOLED": servers.url("direct", database_name).render(),
        }
        return load_settings(**{**urls, "DATABASE_MODE": route, **variables})

    return make


@pytest.fixture
def database(make_settings: Callable[..., Settings]) -> Iterator[Database]:
    """The connection layer on this test's database."""
    database = Database(make_settings())
    yield database
    database.close()


@pytest.fixture
def app(database: Database) -> FastAPI:
    """The application on this test's database."""
    return create_app(database)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client of the application, which sees a 500 as a user would."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def _untouched_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the settings of whoever runs it, or of another test."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_SINGLE_FLIGHT", SINGLE_FLIGHT)
    # Production wants one, and the processes that the tests start take it from here.
    monkeypatch.setenv("JWT_SECRET_KEY", JWT_SECRET_KEY)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    reset()
    yield
    reset()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, nor is given by the system to who asks for any."""
    for port in random.sample(range(15_000, 30_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no free port among a hundred")


def alembic(url: DatabaseURL, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Alembic's command line in a process of its own, as `make migrate` does."""
    text = url.render(hide_password=False)
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        # Both, so that no other comes from the `.env` of whoever runs the tests.
        env=environment_with(DATABASE_URL=text, DATABASE_URL_UNPOOLED=text),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=check,
    )
