"""An error in a pipeline is the statement's own, and leaves the connection as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import Connection, exc, text
from sqlalchemy.orm import Session

from lib.onetrip.connection.dialect import LAST, SETTINGS
from lib.onetrip.pool.refused_writes import RefusedWriteError
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import READING, Units

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
}
MALFORMED = Failure("22023", exc.DataError, "SELECT 1", settings={"statement_timeout": "soon"})
FAILURES["malformed setting"] = MALFORMED
WRITES = ("INSERT", "DELETE", "UPDATE")


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


# The way of execution, and the options of the connection.
PLACES: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
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


def _assert_unharmed(units: Units) -> None:
    """The connection serves the next unit, outside a transaction and with nothing under way."""

    def look(connection: Connection) -> tuple[Any, ...]:
        driver: Any = connection.connection.driver_connection
        one = connection.scalar(text("SELECT 1"))
        connection.rollback()
        return one, driver.info.transaction_status, driver.pgconn.pipeline_status

    assert units.connected(look) == (1, TransactionStatus.IDLE, PipelineStatus.OFF)


@each_place
def test_a_statements_own_error_surfaces_and_harms_nothing(
    units: Units, proxy: Proxy, stranger: psycopg.Connection, place: str
) -> None:
    """Each SQLSTATE and class is seen; nothing of the unit is stored, and its connection serves the next."""
    run, options = PLACES[place]
    for name, failure in FAILURES.items():
        refused = place == "reading" and failure.statement.startswith(WRITES)
        wanted = (RefusedWriteError, "25006") if refused else (failure.error, failure.sqlstate)
        with pytest.raises(exc.DBAPIError) as caught:
            units.connected(partial(run, failure=failure), **options, **{SETTINGS: failure.settings})
        assert (type(caught.value), caught.value.orig.sqlstate) == wanted, name  # type: ignore[union-attr]  # psycopg's
        _assert_unharmed(units)
        assert stranger.execute(STORED).fetchone() == UNCHANGED, name
    assert proxy.connections == 1


@pytest.mark.usefixtures("in_flight")
@pytest.mark.parametrize("slice_bytes", [1, 7, 64, 300])
def test_the_error_is_the_first_however_the_answers_come(
    units: Units, proxy: Proxy, stranger: psycopg.Connection, slice_bytes: int
) -> None:
    """Statements after an error report only that they were skipped, in the same chunk or a later one."""
    units.connected(lambda _: None)
    with pytest.MonkeyPatch.context() as sliced, pytest.raises(exc.DataError, match="soon"):
        sliced.setattr(proxy, "slice_bytes", slice_bytes)
        units.connected(partial(_committing, failure=MALFORMED), **{SETTINGS: MALFORMED.settings})
    _assert_unharmed(units)
    assert stranger.execute(STORED).fetchone() == UNCHANGED


@pytest.mark.parametrize("options", [{}, LAST], ids=["COMMIT alone", "COMMIT pipelined"])
def test_a_commit_that_fails_stores_nothing(
    units: Units, proxy: Proxy, stranger: psycopg.Connection, options: dict[str, Any]
) -> None:
    """A deferred constraint that fails at COMMIT is an error, whether COMMIT was sent alone or pipelined."""

    def store(connection: Connection) -> None:
        connection.execute(text("INSERT INTO parents VALUES (7, 'seven')"))
        connection.execute(text("INSERT INTO children VALUES (2, 1, 99)"), execution_options=options)
        connection.commit()

    with pytest.raises(exc.IntegrityError) as caught:
        units.connected(store)
    assert caught.value.orig.sqlstate == "23503"  # type: ignore[union-attr]  # psycopg's
    _assert_unharmed(units)
    assert stranger.execute(STORED).fetchone() == UNCHANGED
    assert proxy.connections == 1


@pytest.mark.usefixtures("in_flight")
def test_after_a_commit_that_failed_in_flight_only_a_rollback_helps(
    units: Units, stranger: psycopg.Connection
) -> None:
    """After a rollback the rest of the unit is refused, and the next unit is not."""

    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO parents VALUES (7, 'seven')"))
        with pytest.raises(exc.IntegrityError):
            connection.execute(text("INSERT INTO children VALUES (2, 1, 99)"), execution_options=LAST)
        with pytest.raises(exc.InternalError, match="read-only transaction"):
            connection.execute(text("INSERT INTO parents VALUES (8, 'eight')"))
        connection.rollback()
        connection.execute(text("INSERT INTO parents VALUES (9, 'nine')"))
        connection.commit()

    units.connected(work)
    assert stranger.execute(STORED).fetchone() == (["one", "nine"], 1)


def test_after_an_error_only_a_rollback_helps(units: Units, stranger: psycopg.Connection) -> None:
    """A transaction that failed refuses statements until it is rolled back; then the session goes on."""

    def work(session: Session) -> None:
        with pytest.raises(exc.DataError):
            session.execute(text("SELECT 1 / 0"))
        with pytest.raises(exc.InternalError, match="current transaction is aborted"):
            session.execute(text("INSERT INTO parents VALUES (7, 'seven')"))
        session.rollback()
        session.execute(text("INSERT INTO parents VALUES (8, 'eight')"))
        session.commit()

    units.session(work)
    assert stranger.execute(STORED).fetchone() == (["one", "eight"], 1)


def test_several_units_share_a_session(units: Units, stranger: psycopg.Connection) -> None:
    """Each commit ends a unit and the next statement begins another; what is rolled back is not stored."""

    def work(session: Session) -> list[int]:
        numbers = []
        for name, end in (("two", session.commit), ("three", session.rollback), ("four", session.commit)):
            insert = text("INSERT INTO parents VALUES ((SELECT max(id) + 1 FROM parents), :name)")
            session.execute(insert, {"name": name})
            numbers.append(session.scalar(text("SELECT txid_current()")))
            end()
        return numbers

    assert len(set(units.session(work))) == 3
    assert stranger.execute(STORED).fetchone() == (["one", "two", "four"], 1)


LEVELS = {
    "as the database says": ({}, ("repeatable read", "off", "off")),
    "read committed": ({"isolation_level": "READ COMMITTED"}, ("read committed", "off", "off")),
    "serializable": ({"isolation_level": "SERIALIZABLE"}, ("serializable", "off", "off")),
    "read only": ({"postgresql_readonly": True}, ("repeatable read", "on", "off")),
    "deferrable": (
        {
            "isolation_level": "SERIALIZABLE",
            "postgresql_readonly": True,
            "postgresql_deferrable": True,
        },
        ("serializable", "on", "on"),
    ),
    "reading": (READING, ("repeatable read", "on", "off")),
    "autocommit": (AUTOCOMMIT, ("repeatable read", "off", "off")),
}
LEVEL = """
SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),
       current_setting('transaction_deferrable')
"""


@pytest.mark.parametrize(("options", "wanted"), LEVELS.values(), ids=LEVELS)
def test_isolation_levels_are_in_force(
    units: Units, servers: Servers, database_name: str, options: dict[str, Any], wanted: tuple[str, ...]
) -> None:
    """Execution options hold for each statement of the unit, and not for the next unit."""
    servers.administer(
        f"ALTER DATABASE {database_name} SET default_transaction_isolation = 'repeatable read'"
    )

    def look(connection: Connection) -> list[Any]:
        return [tuple(connection.execute(text(LEVEL)).one()) for _ in range(2)]

    assert units.connected(look, **options) == [wanted] * 2
    assert units.connected(look) == [LEVELS["as the database says"][1]] * 2


def test_in_autocommit_each_statement_stands_alone(units: Units, stranger: psycopg.Connection) -> None:
    """With the isolation level AUTOCOMMIT what was done before an error, or before a rollback, is stored."""

    def store(connection: Connection) -> None:
        connection.execute(text("INSERT INTO parents VALUES (2, 'two')"))
        with pytest.raises(exc.IntegrityError):
            connection.execute(text("INSERT INTO parents VALUES (3, 'two')"))
        connection.execute(text("INSERT INTO parents VALUES (3, 'three')"))
        connection.rollback()

    units.connected(store, **AUTOCOMMIT)
    assert stranger.execute(STORED).fetchone() == (["one", "two", "three"], 1)


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("statement", ["VACUUM parents", "CREATE INDEX CONCURRENTLY ON parents (name)"])
def test_in_autocommit_what_must_stand_alone_does(units: Units, statement: str) -> None:
    """Statements that refuse to run in a transaction block run in AUTOCOMMIT, as with the stock dialect."""
    units.connected(lambda connection: connection.execute(text(statement)), **AUTOCOMMIT)
    for options in ({}, READING):
        with pytest.raises(exc.InternalError):
            units.connected(lambda connection: connection.execute(text(statement)), **options)
