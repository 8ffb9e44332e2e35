"""Every way to send a statement, SQLAlchemy's and the driver's own, keeps within its unit of work."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, delete, exc, insert, select, text, update
from sqlalchemy.orm import Session

from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, async_transaction
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import Units
from tests.onetrip.tables import Author

NUMBERS = "SELECT generate_series(1, 500)"
IN_FORCE = "SELECT current_setting('statement_timeout') <> '0'"
NAMES = select(Author.name).order_by(Author.id)
COPY_IN = "COPY authors (name, email) FROM STDIN"
COPY_OUT = (
    "COPY (SELECT current_setting('statement_timeout') <> '0', i FROM generate_series(1, 3) i) TO STDOUT"
)
STREAMED = {"stream_results": True}


class _Undone(Exception):  # noqa: N818  (nothing is wrong)
    """Ends a unit of work that is not to be stored."""


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """A deadline holds, so that every unit of work has a statement timeout."""
    with deadline(30):
        yield


@pytest.fixture
def names(servers: Servers, database_name: str) -> Iterator[Callable[[], list[str]]]:
    """The names that are stored, as another client sees them."""
    url = servers.url("direct", database_name)
    with psycopg.connect(**url.connect_arguments(), autocommit=True) as connection:  # type: ignore[arg-type]
        yield lambda: [row[0] for row in connection.execute("SELECT name FROM authors ORDER BY id")]


def _author(name: str) -> Author:
    return Author(name=name, email=f"{name}@example.com")


def _rows(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "email": f"{name}@example.com"} for name in names]


def _driver(session: Session) -> Any:
    return session.connection().connection.driver_connection


def _undone(units: Units, work: Callable[[Session], object]) -> None:
    """Do `work` in a transaction that is rolled back."""

    def do(session: Session) -> None:
        work(session)
        raise _Undone

    with pytest.raises(_Undone):
        units.transaction(do)


# Savepoints


def test_a_savepoint_may_be_the_first_statement(units: Units, names: Callable[[], list[str]]) -> None:
    """A savepoint rolls back or keeps its part, and the unit around it goes on."""

    def work(session: Session) -> None:
        with pytest.raises(exc.IntegrityError), session.begin_nested():
            session.add_all([_author("ada"), _author("x")])
        with session.begin_nested():
            session.add(_author("grace"))
            savepoint = session.begin_nested()
            session.execute(insert(Author), _rows("mary"))
            savepoint.rollback()
        session.add(_author("joan"))

    _undone(units, work)
    assert names() == []
    units.transaction(work)
    assert names() == ["grace", "joan"]


# Server-side cursors


def _streamed(session: Session) -> list[int]:
    return list(session.scalars(text(NUMBERS), execution_options={"yield_per": 50}))


def test_rows_are_streamed_within_a_transaction(units: Units) -> None:
    """A server-side cursor may be the first statement; it ends with the transaction it began."""

    def work(session: Session) -> list[bool | None]:
        assert _streamed(session) == list(range(1, 501))
        assert session.scalar(text("SELECT count(*) FROM pg_cursors")) == 0
        return [session.scalar(text(IN_FORCE), execution_options=STREAMED), session.scalar(text(IN_FORCE))]

    assert units.transaction(work) == [True, True]


def test_rows_are_streamed_within_a_reading_session(units: Units) -> None:
    """A server-side cursor gets a transaction of its own there, a read-only one with the timeouts."""

    def work(session: Session) -> list[bool | None]:
        assert _streamed(session) == list(range(1, 501))
        with pytest.raises(exc.InternalError, match="read-only transaction"):
            session.execute(insert(Author), _rows("ada"))
        session.rollback()
        return [session.scalar(text(IN_FORCE), execution_options=STREAMED), session.scalar(text(IN_FORCE))]

    assert units.reading(work) == [True, True]
    assert units.connected(lambda connection: connection.scalar(text("SELECT 1"))) == 1


def test_in_autocommit_streaming_is_refused(units: Units) -> None:
    """A cursor needs a transaction to live in, and says so."""
    with pytest.raises(exc.InternalError, match="can only be used in transaction blocks"):
        units.connected(
            lambda connection: connection.execute(text(NUMBERS), execution_options=STREAMED),
            isolation_level="AUTOCOMMIT",
        )


def test_a_half_read_stream_harms_nobody(units: Units, names: Callable[[], list[str]]) -> None:
    """After a stream that stopped in the middle, other statements of the same unit work."""

    def work(session: Session) -> None:
        result = session.execute(text(NUMBERS), execution_options={"yield_per": 10})
        assert result.fetchone() == (1,)
        session.add(_author("ada"))
        session.flush()
        result.close()

    units.transaction(work)
    assert names() == ["ada"]


@pytest.mark.anyio
@pytest.mark.parametrize("session_of", [async_transaction, async_reading])
async def test_an_async_session_streams(proxied_database: Database, session_of: Any) -> None:
    """SQLAlchemy's own way to stream with an async session works in both kinds of session."""
    async with session_of(proxied_database) as session:
        stream = await session.stream(text(NUMBERS))
        assert [row[0] async for row in stream] == list(range(1, 501))
    await proxied_database.aclose()


# COPY


def _copy_in(units: Units, driver: Any) -> None:
    async def wait() -> None:
        async with driver.cursor() as cursor, cursor.copy(COPY_IN) as copy:
            await copy.write_row(("ada", "ada@example.com"))

    if units.is_async:
        units.settle(wait())
        return
    with driver.cursor() as cursor, cursor.copy(COPY_IN) as copy:
        copy.write_row(("ada", "ada@example.com"))


def _copied_out(units: Units, driver: Any) -> list[Any]:
    async def wait() -> list[Any]:
        async with driver.cursor() as cursor, cursor.copy(COPY_OUT) as copy:
            return [row async for row in copy.rows()]

    if units.is_async:
        rows: list[Any] = units.settle(wait())
        return rows
    with driver.cursor() as cursor, cursor.copy(COPY_OUT) as copy:
        return list(copy.rows())


def test_copy_in_is_part_of_its_transaction(units: Units, names: Callable[[], list[str]]) -> None:
    """COPY FROM may be the first statement; it is stored with its unit of work, or not at all."""
    _undone(units, lambda session: _copy_in(units, _driver(session)))
    assert names() == []

    def work(session: Session) -> str | None:
        _copy_in(units, _driver(session))
        return session.scalar(NAMES)

    assert units.transaction(work) == "ada"
    assert names() == ["ada"]


def test_copy_out_runs_under_the_timeouts(units: Units) -> None:
    """COPY TO works in both kinds of session, and the session goes on after it."""

    def work(session: Session) -> tuple[list[Any], bool | None]:
        return _copied_out(units, _driver(session)), session.scalar(text(IN_FORCE))

    wanted = ([("t", "1"), ("t", "2"), ("t", "3")], True)
    assert units.transaction(work) == wanted
    assert units.reading(work) == wanted


def test_copy_in_is_refused_in_a_reading_session(units: Units, names: Callable[[], list[str]]) -> None:
    """A reading session writes nothing, by COPY neither."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        units.reading(lambda session: _copy_in(units, _driver(session)))
    assert names() == []


# Many rows

BULK: dict[str, Callable[[Session], Any]] = {
    "insert": lambda session: session.execute(insert(Author), _rows("ada", "grace")),
    "core insert": lambda session: session.connection().execute(insert(Author), _rows("ada", "grace")),
    "update": lambda session: session.execute(
        update(Author), [{"id": 1, "name": "countess"}, {"id": 2, "name": "admiral"}]
    ),
    "delete": lambda session: session.connection().execute(
        delete(Author).where(Author.id == text(":x")), [{"x": 1}, {"x": 2}]
    ),
    "exec_driver_sql": lambda session: session.connection().exec_driver_sql(
        "UPDATE authors SET name = %s WHERE id = %s", [("countess", 1), ("admiral", 2)]
    ),
}
STORED = {
    "insert": ["first", "second", "ada", "grace"],
    "core insert": ["first", "second", "ada", "grace"],
    "delete": [],
}


@pytest.mark.usefixtures("in_flight")
@pytest.mark.parametrize("bulk", BULK)
def test_many_rows_cost_two_flights_and_are_stored_together(
    units: Units, proxy: Proxy, names: Callable[[], list[str]], bulk: str
) -> None:
    """Any number of rows takes one round trip, and the COMMIT one more."""
    units.transaction(lambda session: session.add_all([_author("first"), _author("second")]))
    _undone(units, BULK[bulk])
    assert names() == ["first", "second"]
    with proxy.counting() as flights:
        units.transaction(BULK[bulk])
    assert flights() == 2
    assert names() == STORED.get(bulk, ["countess", "admiral"])


def test_a_row_that_fails_takes_the_others_with_it(units: Units, names: Callable[[], list[str]]) -> None:
    """Of many rows none is stored if one is refused, in AUTOCOMMIT neither; the error is the row's."""

    def work(connection: Connection) -> None:
        statement = "INSERT INTO authors (name, email) VALUES (%s, %s)"
        connection.exec_driver_sql(statement, [("ada", "a@b.c"), ("x", "x@b.c"), ("grace", "g@b.c")])

    for options in ({}, {"isolation_level": "AUTOCOMMIT"}):
        with pytest.raises(exc.IntegrityError) as caught:
            units.connected(work, **options)
        assert caught.value.orig.sqlstate == "23514"  # type: ignore[union-attr]  # psycopg's
        assert names() == []


def test_the_rows_that_many_statements_changed_are_counted(units: Units) -> None:
    """`rowcount` is the sum over the rows, though their answers came together."""

    def work(session: Session) -> int:
        session.add_all([_author("ada"), _author("grace")])
        session.flush()
        statement = "UPDATE authors SET is_active = false WHERE id >= %s"
        return session.connection().exec_driver_sql(statement, [(1,), (2,), (3,)]).rowcount

    assert units.transaction(work) == 3


# The driver's own ways


def test_the_drivers_own_statements_are_part_of_the_unit(
    units: Units, names: Callable[[], list[str]]
) -> None:
    """`driver.execute` begins the transaction if it comes first, under the timeouts."""

    def work(session: Session) -> Any:
        cursor = units.settle(_driver(session).execute(IN_FORCE))
        units.settle(_driver(session).execute("INSERT INTO authors (name, email) VALUES ('ada', 'a@b.c')"))
        return units.settle(cursor.fetchone())

    _undone(units, work)
    assert names() == []
    assert units.transaction(work) == (True,)
    assert names() == ["ada"]
    assert units.reading(lambda session: units.settle(_driver(session).execute("SELECT 1"))) is not None


def test_the_drivers_own_transaction_is_a_savepoint(units: Units, names: Callable[[], list[str]]) -> None:
    """`driver.transaction()` within a unit keeps or undoes its block, and commits nothing of the unit."""
    statement = "INSERT INTO authors (name, email) VALUES ('ada', 'a@b.c')"

    def work(session: Session) -> None:
        driver = _driver(session)
        session.execute(text("SELECT 1"))

        async def wait() -> None:
            async with driver.transaction():
                await driver.execute(statement)
            async with driver.transaction(force_rollback=True):
                await driver.execute("DELETE FROM authors")

        if units.is_async:
            units.settle(wait())
            return
        with driver.transaction():
            driver.execute(statement)
        with driver.transaction(force_rollback=True):
            driver.execute("DELETE FROM authors")

    _undone(units, work)
    assert names() == []
    units.transaction(work)
    assert names() == ["ada"]


def test_a_commit_behind_sqlalchemys_back_begins_another_transaction(
    units: Units, names: Callable[[], list[str]]
) -> None:
    """After `driver.commit()` the unit goes on in a new transaction, so the rest is still undone together."""

    def work(session: Session) -> None:
        session.execute(insert(Author), _rows("ada"))
        units.settle(_driver(session).commit())
        session.execute(insert(Author), _rows("grace"))
        session.execute(insert(Author), _rows("mary"))

    _undone(units, work)
    assert names() == ["ada"]


def test_the_driver_streams(units: Units) -> None:
    """`cursor.stream()` runs within the transaction and under the timeouts, and may come first."""
    query = "SELECT current_setting('statement_timeout') <> '0', i FROM generate_series(1, 3) i"

    def work(session: Session) -> list[Any]:
        cursor = _driver(session).cursor()

        async def wait() -> list[Any]:
            return [row async for row in cursor.stream(query)]

        rows: list[Any] = units.settle(wait()) if units.is_async else list(cursor.stream(query))
        assert session.scalar(text(IN_FORCE))
        return rows

    wanted = [(True, 1), (True, 2), (True, 3)]
    assert units.transaction(work) == wanted
    assert units.reading(work) == wanted


def _piped(units: Units, driver: Any, *statements: str) -> list[Any]:
    """The first row of each statement, sent in a pipeline opened by hand."""

    async def wait() -> list[Any]:
        async with driver.pipeline():
            cursors = [await driver.execute(statement) for statement in statements]
        return [await cursor.fetchone() for cursor in cursors]

    if units.is_async:
        rows: list[Any] = units.settle(wait())
        return rows
    with driver.pipeline():
        cursors = [driver.execute(statement) for statement in statements]
    return [cursor.fetchone() for cursor in cursors]


def test_a_pipeline_opened_by_hand_is_part_of_the_unit(units: Units, names: Callable[[], list[str]]) -> None:
    """Statements piped by hand begin the transaction and are undone with it; an error in one is its own."""
    statement = "INSERT INTO authors (name, email) VALUES ('{0}', '{0}@b.c') RETURNING name"

    def work(session: Session, *added: str) -> list[Any]:
        return _piped(units, _driver(session), IN_FORCE, *map(statement.format, added), IN_FORCE)

    _undone(units, lambda session: work(session, "ada"))
    with pytest.raises(psycopg.errors.CheckViolation):
        units.transaction(lambda session: work(session, "ada", "x", "grace"))
    assert names() == []
    assert units.transaction(lambda session: work(session, "ada")) == [(True,), ("ada",), (True,)]
    assert names() == ["ada"]
    assert units.reading(work) == [(True,)] * 2
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        units.reading(lambda session: work(session, "grace"))


def test_strings_of_sql_run_as_they_are(units: Units) -> None:
    """`exec_driver_sql`, as pandas uses it, takes the driver's placeholders, by name or by position."""

    def work(connection: Connection) -> list[Any]:
        return [
            connection.exec_driver_sql("SELECT %(x)s::int + 1", {"x": 1}).scalar(),
            connection.exec_driver_sql("SELECT %s::int + 1", (2,)).scalar(),
            connection.exec_driver_sql("SELECT '100%%'").scalar(),
            list(connection.exec_driver_sql("SELECT i FROM generate_series(1, 2) i").mappings()),
        ]

    assert units.connected(work) == [2, 3, "100%", [{"i": 1}, {"i": 2}]]


@pytest.mark.usefixtures("in_flight")
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_two_phase_commit_works(units: Units, names: Callable[[], list[str]], end: str) -> None:
    """A prepared transaction belongs to the server, not to a session: behind a pooler it works too."""

    def work(connection: Connection) -> None:
        transaction = connection.begin_twophase()
        connection.execute(text("INSERT INTO authors (name, email) VALUES ('ada', 'a@b.c')"))
        transaction.prepare()
        getattr(transaction, end)()

    units.connected(work)
    assert names() == (["ada"] if end == "commit" else [])


def test_a_server_side_cursor_whose_connection_is_closed_is_not_called_open(
    database: Database, recwarn: pytest.WarningsRecorder
) -> None:
    """It ended with its connection, as after a cancellation; one that is left open is warned of."""
    for is_closed in (True, False):
        with database.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            cursor = driver.cursor("numbers")
            cursor.execute(NUMBERS)
            if is_closed:
                connection.invalidate()
            recwarn.clear()
            del cursor
            gc.collect()
            assert [w.category for w in recwarn] == ([] if is_closed else [ResourceWarning])
