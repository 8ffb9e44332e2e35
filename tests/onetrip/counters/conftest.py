"""Units of work run every way there is: sync and async, in single flights and with the plain driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings
from tests.onetrip.network import until
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import WAYS, Units

TABLE = "CREATE TABLE counters (id int PRIMARY KEY, count int NOT NULL DEFAULT 0 CHECK (count >= 0))"

# Statements that a test abandoned may still run on the server and hold locks.
RESET = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid();
SET lock_timeout = '10s'; DROP SCHEMA public CASCADE; CREATE SCHEMA public;
"""


class Base(DeclarativeBase):
    """The tests' own tables."""


class Counter(Base):
    """Something that can be written, and lost."""

    __tablename__ = "counters"

    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(server_default="0")


@dataclass(frozen=True)
class Server:
    """The server itself, asked by a connection that is none of the application's."""

    connection: psycopg.Connection

    def run(self, statement: str, *values: object) -> None:
        """Run a statement; it commits at once."""
        self.connection.execute(statement.encode(), values)

    def value(self, query: str, *values: object) -> Any:
        """The first column of the first row."""
        row = self.connection.execute(query.encode(), values).fetchone()
        return row and row[0]

    @property
    def counters(self) -> dict[int, int]:
        """Return the stored rows by id."""
        return dict(self.connection.execute("SELECT id, count FROM counters").fetchall())

    def until(self, query: str, *values: object) -> None:
        """Return when the query's value is true."""
        until(lambda: bool(self.value(query, *values)))


@pytest.fixture(scope="module")
def module_database(servers: Servers) -> Iterator[str]:
    """A database of the module's own: making one takes longer than most of these tests."""
    with servers.copy() as name:
        yield name


@pytest.fixture
def server(servers: Servers, module_database: str) -> Iterator[Server]:
    """The test's database with a table of counters, reached behind the application's back."""
    arguments = servers.url("direct", module_database).connect_arguments()
    with psycopg.connect(**arguments, autocommit=True, application_name="test") as connection:  # type: ignore[arg-type]
        connection.execute(RESET.encode())
        connection.execute(TABLE.encode())
        yield Server(connection)


@pytest.fixture
def database_name(module_database: str, server: Server) -> str:
    """The module's database, with nothing in it but the empty table."""
    assert server.counters == {}
    return module_database


@pytest.fixture(params=["on", "off"])
def flight(request: pytest.FixtureRequest) -> str:
    """Each test that uses sessions does so with `DATABASE_SINGLE_FLIGHT` on and off."""
    flight: str = request.param
    return flight


@pytest.fixture
def database(make_settings: Callable[..., Settings], flight: str) -> Iterator[Database]:
    """The connection layer on this test's database."""
    database = Database(make_settings(DATABASE_SINGLE_FLIGHT=flight))
    yield database
    database.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each test that runs units of work does so with a sync engine and with an async one."""
    way: str = request.param
    return way


@pytest.fixture
def units(database: Database, way: str) -> Iterator[Units]:
    """Units of work on this test's database, sync or async."""
    with Units.opened(database, way) as units:
        yield units
