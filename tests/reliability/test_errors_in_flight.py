"""An error in a flight is the statement's own, and leaves the connection as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import Connection, exc, text

from lib.dialect import LAST, SETTINGS
from tests.conftest import Servers
from tests.faults import Proxy
from tests.reliability.units import Units

TABLES = """
CREATE TABLE parents (id int PRIMARY KEY CHECK (id > 0), name text NOT NULL UNIQUE);
CREATE TABLE children (
    id int PRIMARY KEY,
    parent_id int NOT NULL REFERENCES parents,
    later_id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO parents VALUES (1, 'one');
INSERT INTO children VALUES (1, 1, NULL);
"""
STORED = "SELECT (SELECT array_agg(name) FROM parents), (SELECT count(*) FROM children)"
UNCHANGED = (["one"], 1)
READING = {"isolation_level": "AUTOCOMMIT", "postgresql_readonly": True}
AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}


@dataclass(frozen=True)
class Failure:
    """A statement that fails, under these settings, and the error that is to be seen."""

    sqlstate: str | None
    error: type[exc.DBAPIError]
    statement: str
    parameters: dict[str, Any] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def execute(self, connection: Connection, **options: object) -> None:
        """Fail."""
        connection.execute(text(self.statement), self.parameters, execution_options=options)


FAILURES = {
    "unique": Failure("23505", exc.IntegrityError, "INSERT INTO parents VALUES (2, 'one')"),
    "foreign key": Failure("23503", exc.IntegrityError, "INSERT INTO children VALUES (2, 99)"),
    "still referenced": Failure("23503", exc.IntegrityError, "DELETE FROM parents"),
    "check": Failure("23514", exc.IntegrityError, "INSERT INTO parents VALUES (-1, 'minus')"),
    "not null": Failure("23502", exc.IntegrityError, "INSERT INTO parents VALUES (2, NULL)"),
    "syntax": Failure("42601", exc.ProgrammingError, "SELEKT 1"),
    "undefined table": Failure("42P01", exc.ProgrammingError, "SELECT * FROM nowhere"),
    "division by zero": Failure("22012", exc.DataError, "SELECT 1 / (id - id) FROM parents"),
    "text for a number": Failure("22P02", exc.DataError, "SELECT CAST(:x AS int)", {"x": "one"}),
    "NUL in a text": Failure(None, exc.DataError, "SELECT :x", {"x": "a\0b"}),
    "unsendable type": Failure(None, exc.ProgrammingError, "SELECT :x", {"x": object()}),
    "raised by a function": Failure("P0001", exc.ProgrammingError, "DO 'BEGIN RAISE $$no$$; END'"),
    "statement timeout": Failure(
        "57014", exc.OperationalError, "SELECT pg_sleep(60)", settings={"statement_timeout": "50"}
    ),
    "lock timeout": Failure(
        "55P03", exc.OperationalError, "SELECT * FROM locked", settings={"lock_timeout": "50"}
    ),
    "malformed setting": Failure("22023", exc.DataError, "SELECT 1", settings={"statement_timeout": "soon"}),
}
WRITES = ("INSERT", "DELETE", "UPDATE")
each_failure = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)


def _first(connection: Connection, failure: Failure) -> None:
    failure.execute(connection)


def _later(connection: Connection, failure: Failure) -> None:
    connection.execute(text("SELECT 1"))
    failure.execute(connection)


def _after_a_write(connection: Connection, failure: Failure) -> None:
    connection.execute(text("INSERT INTO parents VALUES (7, 'seven')"))
    failure.execute(connection)


def _committing(connection: Connection, failure: Failure) -> None:
    failure.execute(connection, **LAST)


def _committing_a_write_before_it(connection: Connection, failure: Failure) -> None:
    connection.execute(text("INSERT INTO parents VALUES (7, 'seven')"))
    failure.execute(connection, **LAST)


PLACES: dict[str, tuple[Callable[[Connection, Failure], None], dict[str, Any]]] = {
    "first": (_first, {}),
    "later": (_later, {}),
    "after a write": (_after_a_write, {}),
    "committing": (_committing, {}),
    "committing a write before it": (_committing_a_write_before_it, {}),
    "reading": (_first, READING),
    "autocommit": (_first, AUTOCOMMIT),
}
each_place = pytest.mark.parametrize("place", PLACES)


@pytest.fixture
def stranger(servers: Servers, database_name: str) -> Iterator[psycopg.Connection]:
    """Another client, on the server itself, who made the tables and holds a lock on one."""
    url = servers.url("direct", database_name)
    with psycopg.connect(**url.connect_arguments(), autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(TABLES)
        connection.execute("CREATE TABLE locked ()")
        with connection.transaction(force_rollback=True):
            connection.execute("LOCK TABLE locked")
            yield connection


@contextmanager
def _unharmed(units: Units, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens in the block, the connection it happened on serves the next unit, without a word."""
    units.connected(lambda _: None)
    connections = proxy.connections
    yield

    def look(connection: Connection) -> tuple[Any, ...]:
        driver: Any = connection.connection.driver_connection
        one = connection.scalar(text("SELECT 1"))
        connection.rollback()
        return one, driver.info.transaction_status, driver.pgconn.pipeline_status

    assert units.connected(look) == (1, TransactionStatus.IDLE, PipelineStatus.OFF)
    assert proxy.connections == connections
    assert [record for record in caplog.records if record.name.startswith("psycopg")] == []


@each_place
@each_failure
def test_the_statements_own_error_surfaces(  # noqa: PLR0913, PLR0917  (fixtures)
    units: Units,
    proxy: Proxy,
    stranger: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
    failure: Failure,
    place: str,
) -> None:
    """Wherever a statement fails, its SQLSTATE and class are seen, and nothing of its unit is stored."""
    run, options = PLACES[place]
    refused = place == "reading" and failure.statement.startswith(WRITES)
    error, sqlstate = (exc.InternalError, "25006") if refused else (failure.error, failure.sqlstate)
    with _unharmed(units, proxy, caplog):
        with pytest.raises(exc.DBAPIError) as caught:
            units.connected(
                lambda connection: run(connection, failure), **options, **{SETTINGS: failure.settings}
            )
        assert type(caught.value) is error
        assert caught.value.orig.sqlstate == sqlstate  # type: ignore[union-attr]  # psycopg's
    assert stranger.execute(STORED).fetchone() == UNCHANGED
