"""A transaction that only read is left without waiting for its ROLLBACK, and no use of it shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import Connection, exc, select, text
from sqlalchemy.orm import Session

from lib.onetrip.observability.request_stats import RequestStats, collecting
from lib.onetrip.pool.database import Database
from tests.onetrip.network import until
from tests.onetrip.sync_or_async import Units
from tests.onetrip.tables import Book

if TYPE_CHECKING:
    from lib.onetrip.settings.settings import Settings
    from tests.onetrip.fault_proxy import Proxy
    from tests.onetrip.servers import Servers

LATENCY_SECONDS = 0.03
# Each way. Long beside what the processor needs, even on a busy machine.
LONG_LATENCY_SECONDS = 0.15
WAITED = {
    "a locking read": "SELECT * FROM books WHERE id = 1 FOR UPDATE",
    "a shared lock": "select * from books where id = 1 for\nshare",
    "a write": "UPDATE books SET title = 'new' WHERE id = 1",
    "a write that answers as a read": "WITH w AS (DELETE FROM books RETURNING id) SELECT * FROM w",
    "an advisory lock": "SELECT pg_advisory_xact_lock(7)",
    "a table's lock": "LOCK TABLE books IN ACCESS EXCLUSIVE MODE",
}
PROBE = "SELECT id FROM books WHERE id = 1 FOR UPDATE NOWAIT"


@pytest.fixture(autouse=True)
def _in_flight(in_flight: None) -> None:
    """Asked for before any fixture makes a database."""


@pytest.fixture(autouse=True)
def stored(database: Database) -> Callable[[], list[str]]:
    """A book in the test's database; the titles that are stored."""

    def titles() -> list[str]:
        with Session(database.engine) as session:
            return list(session.scalars(select(Book.title).order_by(Book.id)))

    with database.engine.begin() as connection:
        Book.metadata.create_all(connection)
        connection.execute(text("INSERT INTO authors (name, email) VALUES ('Ann', 'a@b.c')"))
        connection.execute(text("INSERT INTO books (author_id, title) VALUES (1, 'old')"))
    return titles


@pytest.fixture
def slow(units: Units, proxy: Proxy) -> Iterator[Proxy]:
    """A network with some latency, once a connection is made."""
    units.session(lambda session: session.scalar(select(1)))
    proxy.latency_seconds = LATENCY_SECONDS
    yield proxy
    proxy.latency_seconds = 0.0


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _leave(connection: Connection) -> None:
    """End the transaction as SQLAlchemy does where a connection or session is closed."""
    if transaction := connection.get_transaction():
        transaction.close()


def _read(session: Session) -> Any:
    return session.scalar(select(Book.title))


def _read_and_wait(session: Session) -> Any:
    title = _read(session)
    session.rollback()
    return title


@pytest.mark.slow
def test_a_kept_session_that_only_reads_costs_one_round_trip(units: Units, slow: Proxy) -> None:
    """Each of ten in a row, as requests report it, and by the clock beside reads that wait for ROLLBACK."""
    slow.latency_seconds = LONG_LATENCY_SECONDS

    def seconds(work: Callable[[Session], Any]) -> float:
        begin = time.monotonic()
        for _ in range(10):
            assert units.session(work) == "old"
        return time.monotonic() - begin

    with collecting(RequestStats()) as stats:
        left = seconds(_read)
    assert stats.round_trips == 10
    # 0.75 on an idle machine: this network delays the next statement behind the ROLLBACK.
    assert left < 0.9 * seconds(_read_and_wait)


def test_a_core_connection_that_only_reads_costs_one_round_trip(units: Units, slow: Proxy) -> None:
    """`with engine.connect()`, with several statements in its transaction, waits for each of them only."""

    def work(connection: Connection) -> None:
        for _ in range(3):
            connection.execute(text("SELECT 1"))

    with collecting(RequestStats()) as stats:
        for _ in range(2):
            units.connected(work)
    assert stats.round_trips == 6
    assert slow.open_connections == 1


@pytest.mark.parametrize("statement", WAITED.values(), ids=WAITED)
def test_a_transaction_that_may_hold_locks_is_waited_for(
    units: Units, servers: Servers, database_name: str, stored: Callable[[], list[str]], statement: str
) -> None:
    """Once the session is closed its locks are gone, and nothing of it is stored."""
    for _ in range(5):
        units.session(lambda session: session.execute(text(statement)))
        assert servers.administer(PROBE, database_name) == [(1,)]
        assert not servers.administer("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'", database_name)
    assert stored() == ["old"]


def test_a_write_after_a_read_is_waited_for(
    units: Units, servers: Servers, database_name: str, slow: Proxy
) -> None:
    """A later statement, a savepoint, many rows at once: whatever comes by another way counts, too."""

    def later(session: Session) -> None:
        _read(session)
        session.execute(text("UPDATE books SET title = 'new'"))

    def nested(session: Session) -> None:
        _read(session)
        with session.begin_nested():
            session.execute(text("UPDATE books SET title = 'new'"))

    def many(session: Session) -> None:
        _read(session)
        rows = [("new", 1), ("new", 2)]
        session.connection().exec_driver_sql("UPDATE books SET title = %s WHERE id = %s", rows)

    assert slow.latency_seconds
    for work in (later, nested, many):
        units.session(work)
        assert servers.administer(PROBE, database_name) == [(1,)]


def test_the_rollback_has_left_when_the_session_is_closed(
    units: Units, servers: Servers, database_name: str
) -> None:
    """A process that is frozen right then leaves no transaction open, behind the pooler neither."""
    units.session(_read)
    ask = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND state LIKE 'idle in%'"
    )
    until(lambda: servers.administer(ask, database_name) == [(0,)])


def _other_cursors(units: Units) -> tuple[Any, ...]:
    if units.is_async:
        return (psycopg.AsyncCursor, psycopg.AsyncClientCursor, psycopg.AsyncRawCursor)
    return (psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor)


def _streams(units: Units, connection: Connection) -> Any:
    driver = _driver(connection)

    async def asynchronous() -> list[Any]:
        return [row async for row in driver.cursor().stream("SELECT 1")]

    return units.settle(asynchronous()) if units.is_async else list(driver.cursor().stream("SELECT 1"))


def _server_cursor(_: Units, connection: Connection) -> Any:
    result = connection.execution_options(stream_results=True).execute(text("SELECT 1"))
    return result.fetchall()


def _pipeline(units: Units, connection: Connection) -> Any:
    driver = _driver(connection)

    async def asynchronous() -> Any:
        async with driver.pipeline():
            cursor = await driver.execute("SELECT 1")
        return await cursor.fetchall()

    if units.is_async:
        return units.settle(asynchronous())
    with driver.pipeline():
        cursor = driver.execute("SELECT 1")
    return cursor.fetchall()


def _driver_transaction(units: Units, connection: Connection) -> Any:
    driver = _driver(connection)

    async def asynchronous() -> Any:
        async with driver.transaction():
            return await (await driver.execute("SELECT 1")).fetchall()

    if units.is_async:
        return units.settle(asynchronous())
    with driver.transaction():
        return driver.execute("SELECT 1").fetchall()


def _own_cursors(units: Units, connection: Connection) -> Any:
    driver = _driver(connection)
    rows = None
    for kind in _other_cursors(units):
        cursor = kind(driver)
        units.settle(cursor.execute("SELECT 1"))
        rows = units.settle(cursor.fetchall())
        _leave(connection)
    return rows


def _autocommit(units: Units, connection: Connection) -> Any:
    driver = _driver(connection)
    units.settle(driver.set_autocommit(True))
    rows = connection.execute(text("SELECT 1")).fetchall()
    units.settle(driver.set_autocommit(False))
    return rows


def _twice(_: Units, connection: Connection) -> Any:
    connection.rollback()
    connection.commit()
    return connection.execute(text("SELECT 1")).fetchall()


def _many(_: Units, connection: Connection) -> Any:
    connection.exec_driver_sql("INSERT INTO books (author_id, title) VALUES (%s, %s)", [(1, "a"), (1, "b")])
    connection.rollback()
    return connection.execute(text("SELECT 1")).fetchall()


@pytest.mark.parametrize(
    "use",
    [
        _streams,
        _server_cursor,
        _pipeline,
        _driver_transaction,
        _own_cursors,
        _autocommit,
        _twice,
        _many,
    ],
)
def test_the_connection_serves_every_use_at_once(
    units: Units, slow: Proxy, use: Callable[[Units, Connection], Any]
) -> None:
    """Before the answer to the ROLLBACK is there, each way to go on works, in a transaction of its own."""

    def work(connection: Connection) -> Any:
        connection.execute(text("SELECT 1"))
        _leave(connection)
        rows = [tuple(row) for row in use(units, connection)]
        connection.rollback()
        # For what the driver began by itself.
        units.settle(_driver(connection).rollback())
        return rows

    assert units.connected(work) == [(1,)]
    assert units.session(_read) == "old"
    assert slow.open_connections == 1


def test_an_error_comes_from_its_own_statement(units: Units, slow: Proxy) -> None:
    """The first statement after a late ROLLBACK fails by its own error, and leaves a usable connection."""

    def work(connection: Connection) -> Any:
        connection.execute(text("SELECT 1"))
        _leave(connection)
        with pytest.raises(exc.DataError) as caught:
            connection.execute(text("SELECT 1 / 0"))
        connection.rollback()
        with pytest.raises(exc.ProgrammingError):
            # The client itself refuses it: nothing is sent.
            connection.exec_driver_sql("SELECT %s", (object(),))
        return getattr(caught.value.orig, "sqlstate", None), _driver(connection).closed

    assert units.connected(work) == ("22012", False)
    assert units.session(_read) == "old"
    assert slow.open_connections == 1


@pytest.mark.parametrize("fault", ["reset", "hang_up"])
def test_a_connection_that_ended_instead_is_not_handed_out(units: Units, proxy: Proxy, fault: str) -> None:
    """The next use gets another connection, and no error."""
    for _ in range(5):
        units.session(_read)
        getattr(proxy, fault)()
        assert units.session(_read) == "old"


def test_a_pooler_keeps_its_connection_where_the_client_closes(
    proxied_settings: Callable[..., Settings], servers: Servers, database_name: str, way: str, route: str
) -> None:
    """Without a pool of its own, a process closes each connection, once its ROLLBACK was answered."""
    if route == "direct":
        pytest.skip("there is no pooler")

    def ask(session: Session) -> Any:
        return session.scalar(text("SELECT pg_backend_pid()"))

    with Units.opened(Database(proxied_settings(DATABASE_POOL="null")), way) as units:
        backends = {units.session(ask) for _ in range(10)}
        units.session(_read)
    assert len(backends) == 1
    kept = servers.administer(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()", database_name
    )
    assert (backends.pop(),) in kept


def test_a_child_process_leaves_the_answer_to_its_parent(database: Database) -> None:
    """A fork between ROLLBACK and answer: the child connects anew, the parent goes on."""

    def says(word: str) -> bool:
        with database.engine.connect() as connection:
            return bool(connection.scalar(text("SELECT :word"), {"word": word}) == word)

    for number in range(5):
        assert says(f"before {number}")
        if not (child := os.fork()):
            try:
                os._exit(0 if says("child") and says("child again") else 1)
            finally:
                os._exit(2)
        assert says(f"parent {number}")
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_rollback_that_somebody_asks_for_is_waited_for(units: Units, slow: Proxy) -> None:
    """The connection is idle afterwards, by SQLAlchemy's method and by the driver's."""

    def work(connection: Connection) -> list[Any]:
        driver, found = _driver(connection), []
        for rollback in (connection.rollback, lambda: units.settle(driver.rollback())):
            connection.execute(text("SELECT 1"))
            rollback()
            found += [driver.info.transaction_status, driver.pgconn.pipeline_status]
            connection.rollback()
        return found

    assert slow.latency_seconds
    assert units.connected(work) == [TransactionStatus.IDLE, PipelineStatus.OFF] * 2
