"""Units of work run every way there is: sync and async, in single flights and with the plain driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from lib.engine import Database
from lib.settings import Settings
from tests.conftest import Servers
from tests.reliability.units import WAYS, Units


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

    def until(self, query: str, *values: object) -> None:
        """Return when the query's value is true; the test's own time limit is the only one."""
        while not self.value(query, *values):
            pass


@pytest.fixture
def server(servers: Servers, database_name: str) -> Iterator[Server]:
    """This test's database, reached behind the application's back."""
    arguments = servers.url("direct", database_name).connect_arguments()
    with psycopg.connect(**arguments, autocommit=True, application_name="test") as connection:  # type: ignore[arg-type]
        yield Server(connection)


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
