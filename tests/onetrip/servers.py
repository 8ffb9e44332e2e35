"""A plugin of pytest: servers of a worker's own, and an environment independent of the machine."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from lib.onetrip.pool.database import reset
from lib.onetrip.settings.checked import CheckedSettings
from lib.onetrip.testing.databases import free_port
from lib.onetrip.testing.postgres import LocalPostgres
from lib.onetrip.testing.postgres import running as postgres_running
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip import pgbouncer
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY, OURS, SINGLE_FLIGHT

# Durability costs time, and no test here pulls the plug.
POSTGRES_SETTINGS = {
    "max_connections": "104",
    "max_prepared_transactions": "4",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
}

REPEATED = {("direct", "async"), ("pooled", "sync"), ("direct", "on"), ("pooled", "off")}


@dataclass(frozen=True)
class Servers:
    """A PostgreSQL and the PgBouncer in front of it."""

    postgres: LocalPostgres
    pooler: pgbouncer.PgBouncer
    # Stays open: to connect would take as long as what it does.
    maker: psycopg.Connection | None = None

    def url(self, route: str, database: str = "postgres", user: str = "postgres") -> DatabaseURL:
        """The URL of a database by `route`: direct (TCP, without the pooler) or pooled."""
        if route == "pooled":
            return replace(self.pooler.url(database), user=user)
        return DatabaseURL(user=user, host="127.0.0.1", port=self.postgres.port, database=database)

    def administer(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside any transaction, as the superuser; return its rows."""
        with _connected(self.url("direct", database)) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def copy(self, template: str = "template1") -> Iterator[str]:
        """Make a database, a copy of `template`, for the block."""
        assert self.maker is not None
        name = f"test_{uuid4().hex}"
        self.maker.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        try:
            yield name
        finally:
            self.maker.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def empty(self, database: str, tables: str) -> None:
        """Remove all rows of `tables`, and the pooler's sessions."""
        self.administer(f"TRUNCATE {tables} RESTART IDENTITY", database)
        self.pooler.command(f"RECONNECT {database}")


def _connected(url: DatabaseURL) -> psycopg.Connection:
    arguments: Any = url.connect_arguments()
    return psycopg.connect(**arguments, autocommit=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fetch what is missing once, before the workers start."""
    if getattr(session.config.option, "numprocesses", None):
        pgbouncer.install()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors, since tests wait as long as they compute; none for one file."""
    paths = {config.rootpath / argument.partition("::")[0] for argument in config.args}
    files = {file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])}
    # All tests of a file are one worker's.
    return min((os.cpu_count() or 1) + 1, len(files)) if len(files) > 1 else 0


@pytest.hookimpl(tryfirst=True)  # before those that are marked are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one way be quick on each route, and single flights on one: each is still there once."""
    for item in items:
        tried = getattr(item, "callspec", None)
        if tried and any(
            (tried.params.get("route"), tried.params.get(of)) in REPEATED for of in ("way", "flight")
        ):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal() -> None:
    """Give processes that tests start a terminal's signals: `nohup` and a background shell ignore some."""
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
    folder = Path(tempfile.mkdtemp(prefix="onetrip-"))
    # The servers may run as another user than root, who must be able to get there.
    folder.chmod(0o755)
    try:
        postgres = LocalPostgres(folder / "postgres", port=free_port(), settings=POSTGRES_SETTINGS)
        with postgres_running(postgres):
            server = DatabaseURL(host="127.0.0.1", port=postgres.port)
            pooler = pgbouncer.PgBouncer(folder / "pgbouncer", free_port(), server)
            with pgbouncer.running(pooler), _connected(replace(server, user="postgres")) as maker:
                yield Servers(postgres, pooler, maker)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _untouched_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the settings of this machine, or of another test."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_SINGLE_FLIGHT", SINGLE_FLIGHT)
    # Without it the rules of production would hold.
    monkeypatch.setenv("ENVIRONMENT", "development")
    # Production wants one, and the processes that the tests start take it from here.
    monkeypatch.setenv("JWT_SECRET_KEY", JWT_SECRET_KEY)
    monkeypatch.setenv("JWT_ISSUER", JWT_ISSUER)
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", None)
    reset()
    yield
    reset()
