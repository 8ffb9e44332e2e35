"""A unit of work is stored whole or not at all, and gives its connection back whatever happens."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction
from tests.onetrip.counters.conftest import Counter
from tests.onetrip.network import sqlstate

if TYPE_CHECKING:
    from sqlalchemy import Pool
    from sqlalchemy.orm import Session

    from lib.onetrip.pool.database import Database
    from tests.onetrip.counters.conftest import Server
    from tests.onetrip.sync_or_async import Units

BLOCKED = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
SLEEPS = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


class WorkError(Exception):
    """An error in a unit of work."""


def pool(units: Units) -> Pool:
    """The pool that the units take their connections from."""
    return units.database.async_engine.pool if units.is_async else units.database.engine.pool


def checked_out(units: Units) -> int:
    """Count the connections that are checked out."""
    count: int = pool(units).checkedout()  # type: ignore[attr-defined]  # both kinds of pool count
    return count


def add(number: int) -> Counter:
    """A counter not yet stored."""
    return Counter(id=number, count=number)


def test_what_a_transaction_did_is_stored(units: Units, server: Server) -> None:
    """When the block ends, everything in it is committed."""
    units.transaction(lambda session: session.add_all([add(1), add(2)]))
    assert server.counters == {1: 1, 2: 2}


def test_nothing_is_stored_before_the_end(units: Units, server: Server) -> None:
    """Other transactions never see half of a unit of work."""

    def work(session: Session) -> None:
        session.add(add(1))
        session.flush()
        assert server.counters == {}

    units.transaction(work)
    assert server.counters == {1: 1}


def test_an_exception_takes_all_back(units: Units, server: Server) -> None:
    """A block that raises stores nothing, and its own exception comes out."""

    def work(session: Session) -> None:
        session.add(add(1))
        session.flush()
        raise WorkError

    with pytest.raises(WorkError):
        units.transaction(work)
    assert server.counters == {}
    assert checked_out(units) == 0


def test_a_refused_statement_takes_all_back(units: Units, server: Server) -> None:
    """An error of the database is an exception like any other."""

    def work(session: Session) -> None:
        session.add(add(1))
        session.flush()
        session.execute(text("INSERT INTO counters VALUES (1)"))

    with pytest.raises(IntegrityError):
        units.transaction(work)
    assert server.counters == {}
    units.transaction(lambda session: session.add(add(2)))
    assert server.counters == {2: 2}


def test_objects_can_be_read_after_the_commit_without_a_query(units: Units, server: Server) -> None:
    """Stored and loaded attributes stay readable after the session is closed, without a query."""
    server.run("INSERT INTO counters VALUES (7, 7)")
    statements: list[str] = []
    engine = units.database.async_engine.sync_engine if units.is_async else units.database.engine

    def work(session: Session) -> list[Counter]:
        created = add(1)
        session.add(created)
        loaded = session.scalars(select(Counter).where(Counter.id == 7)).one()
        session.flush()
        event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        return [created, loaded]

    objects = units.transaction(work)
    assert [(item.id, item.count) for item in objects] == [(1, 1), (7, 7)]
    assert statements == []


def test_a_savepoint_is_taken_back_alone(units: Units, server: Server) -> None:
    """An error within a savepoint leaves the rest of the transaction unchanged."""

    def work(session: Session) -> None:
        session.add(add(1))
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(text("INSERT INTO counters VALUES (2), (2)"))
        with session.begin_nested():
            session.add(add(3))

    units.transaction(work)
    assert server.counters == {1: 1, 3: 3}


def test_a_savepoint_within_a_savepoint(units: Units, server: Server) -> None:
    """The outer one takes back what the inner one had kept."""

    def work(session: Session) -> None:
        with pytest.raises(WorkError), session.begin_nested():
            with session.begin_nested():
                session.add(add(1))
            raise WorkError
        session.add(add(2))

    units.transaction(work)
    assert server.counters == {2: 2}


def test_a_transaction_may_begin_with_a_savepoint(units: Units, server: Server) -> None:
    """The first statement of all may be the one that is taken back."""

    def work(session: Session) -> None:
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(text("INSERT INTO counters VALUES (1), (1)"))
        session.add(add(2))

    units.transaction(work)
    assert server.counters == {2: 2}


WRITES = {
    "insert": ["INSERT INTO counters VALUES (1)"],
    "update": ["UPDATE counters SET count = 1"],
    "delete": ["DELETE FROM counters"],
    "within a query": ["WITH made AS (INSERT INTO counters VALUES (1) RETURNING id) SELECT * FROM made"],
    "within a function": ["SELECT count_up()"],
    "a lock": ["SELECT * FROM counters FOR UPDATE"],
    "a table": ["CREATE TABLE other (id int)"],
    "a sequence": ["SELECT nextval('numbers')"],
    "after a read": ["SELECT 1", "INSERT INTO counters VALUES (1)"],
    "after a commit": ["SELECT 1", "COMMIT", "INSERT INTO counters VALUES (1)"],
    "after a rollback": ["ROLLBACK", "INSERT INTO counters VALUES (1)"],
}
FUNCTION = "CREATE FUNCTION count_up() RETURNS void LANGUAGE sql AS 'UPDATE counters SET count = count + 1'"


def test_a_reading_session_writes_nothing(units: Units, server: Server) -> None:
    """The server itself refuses a write, in SQL written by hand and after a COMMIT too (SQLSTATE 25006)."""
    server.run("INSERT INTO counters VALUES (7, 7)")
    server.run("CREATE SEQUENCE numbers")
    server.run(FUNCTION)
    codes = {name: _refused(units, statements) for name, statements in WRITES.items()}
    assert codes == dict.fromkeys(WRITES, "25006")
    assert server.counters == {7: 7}


def _refused(units: Units, statements: list[str]) -> str | None:
    """The code with which a reading session refuses the last of `statements`."""

    def work(session: Session) -> str | None:
        for statement in statements[:-1]:
            session.execute(text(statement))
        with pytest.raises(DBAPIError) as refused:
            session.execute(text(statements[-1]))
        return sqlstate(refused)

    return units.reading(work)


def test_an_object_added_to_a_reading_session_is_refused(units: Units, server: Server) -> None:
    """A flush of the session is refused like every other write."""

    def work(session: Session) -> None:
        session.add(add(1))
        session.flush()

    with pytest.raises(DBAPIError) as refused:
        units.reading(work)
    assert sqlstate(refused) == "25006"
    assert server.counters == {}


def test_reading_leaves_no_trace_on_the_connection(units: Units, server: Server) -> None:
    """The next unit of work on the same connection may write."""
    units.reading(lambda session: session.execute(text("SELECT 1")))
    units.transaction(lambda session: session.add(add(1)))
    assert units.reading(lambda session: session.get_one(Counter, 1).count) == 1
    units.transaction(lambda session: session.execute(text("UPDATE counters SET count = 2")))
    assert server.counters == {1: 2}


def test_a_reading_session_sees_what_was_just_stored(units: Units, server: Server) -> None:
    """Each query reads what is committed by then: no old snapshot is kept."""

    def work(session: Session) -> list[int]:
        query = text("SELECT count(*) FROM counters")
        before = session.execute(query).scalar_one()
        server.run("INSERT INTO counters VALUES (1)")
        return [before, session.execute(query).scalar_one()]

    assert units.reading(work) == [0, 1]


@pytest.mark.usefixtures("server")
def test_units_of_work_use_the_same_connection_again(units: Units) -> None:
    """Each gives its connection back at its end, also when it fails."""

    def driver_connection(session: Session) -> int:
        connection = session.connection()
        connection.execute(text("SELECT 1"))
        return id(connection.connection.driver_connection)

    def failing(session: Session) -> None:
        session.execute(text("SELECT 1"))
        raise WorkError

    used = {units.transaction(driver_connection), units.reading(driver_connection)}
    for unit in (units.transaction, units.reading):
        with pytest.raises(WorkError):
            unit(failing)
        used |= {unit(driver_connection)}
    assert len(used) == 1
    assert checked_out(units) == 0


def test_without_a_lock_one_of_two_updates_is_lost(database: Database, server: Server) -> None:
    """The race that the lock prevents: two units read the same row and write a result of it."""
    server.run("INSERT INTO counters VALUES (1, 0)")
    both_have_read = Barrier(2)

    def count_up(_: int) -> None:
        with transaction(database) as session:
            counter = session.get_one(Counter, 1)
            both_have_read.wait()
            counter.count += 1

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(count_up, range(2)))
    assert server.counters == {1: 1}


def test_with_a_lock_both_updates_count(database: Database, server: Server) -> None:
    """The second waits for the first and reads what it wrote."""
    server.run("INSERT INTO counters VALUES (1, 0)")
    has_lock = Event()

    def first() -> None:
        with transaction(database) as session:
            counter = session.get_one(Counter, 1, with_for_update=True)
            has_lock.set()
            server.until(BLOCKED)
            counter.count += 1

    def second() -> None:
        has_lock.wait()
        with transaction(database) as session:
            session.get_one(Counter, 1, with_for_update=True).count += 1

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(first), threads.submit(second)]:
            done.result()
    assert server.counters == {1: 2}


@pytest.mark.anyio
async def test_async_work_awaits_its_session(database: Database, server: Server) -> None:
    """The async units of work as one writes them, savepoint included."""
    async with async_transaction(database) as session:
        session.add(add(1))
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                await session.execute(text("INSERT INTO counters VALUES (2), (2)"))
        async with session.begin_nested():
            session.add(add(3))
    assert server.counters == {1: 1, 3: 3}
    async with async_reading(database) as session:
        assert (await session.scalars(select(Counter.id).order_by(Counter.id))).all() == [1, 3]
    await database.aclose()


@pytest.mark.anyio
async def test_cancelled_work_is_taken_back_and_returns_its_connection(
    database: Database, server: Server
) -> None:
    """Work that is given up in the middle of a statement stores nothing, and the pool is whole."""

    async def work() -> None:
        async with async_transaction(database) as session:
            session.add(add(1))
            await session.flush()
            await session.execute(text("SELECT pg_sleep(600)"))

    task = asyncio.create_task(work())
    await asyncio.to_thread(server.until, SLEEPS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert database.async_engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a queue counts
    async with async_transaction(database) as session:
        session.add(add(2))
    assert server.counters == {2: 2}
    await database.aclose()


def test_without_a_database_the_processs_own_is_used(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts and jobs write `with transaction() as session`."""
    monkeypatch.setenv("DATABASE_URL", database.url.render())
    with transaction() as session:
        session.add(add(1))
    with reading() as session:
        assert session.get_one(Counter, 1).count == 1
    assert server.counters == {1: 1}
