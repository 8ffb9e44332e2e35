"""Units of work outside routes: begin, work, commit or roll back, and always give the connection back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError

from lib.engine import Database
from lib.example.models import User
from lib.session import async_reading, async_transaction, reading, transaction

pytestmark = pytest.mark.anyio
NAMES = select(User.username).order_by(User.id)
WRITES = (
    "INSERT INTO users (username, email) VALUES ('eve', 'eve@example.com')",
    "WITH gone AS (DELETE FROM users RETURNING id) SELECT count(*) FROM gone",
    "CREATE TABLE mine (id int)",
)


def _user(name: str) -> User:
    return User(username=name, email=f"{name}@example.com")


def test_work_is_committed_when_the_block_ends(database: Database) -> None:
    """What was added is there for the next session, with what the server filled in."""
    with transaction(database) as session:
        user = _user("ada")
        session.add(user)
    with reading(database) as session:
        assert session.scalars(NAMES).all() == ["ada"]
    assert user.id is not None


async def test_async_work_is_committed_when_the_block_ends(database: Database) -> None:
    """The same with an async session."""
    async with async_transaction(database) as session:
        session.add(_user("ada"))
    async with async_reading(database) as session:
        assert (await session.scalars(NAMES)).all() == ["ada"]
    await database.aclose()


def test_an_exception_rolls_back(database: Database) -> None:
    """The exception reaches the caller as it was, and nothing is stored."""
    with pytest.raises(ZeroDivisionError), transaction(database) as session:
        session.add(_user("ada"))
        session.flush()
        raise ZeroDivisionError
    assert _names(database) == []


async def test_an_exception_rolls_back_async_work(database: Database) -> None:
    """The same with an async session."""
    with pytest.raises(ZeroDivisionError):
        async with async_transaction(database) as session:
            session.add(_user("ada"))
            await session.flush()
            raise ZeroDivisionError
    assert _names(database) == []
    await database.aclose()


def test_objects_are_readable_after_the_commit_without_a_query(database: Database) -> None:
    """Nothing is read again for an object that was just written."""
    with transaction(database) as session:
        user = _user("ada")
        session.add(user)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert (user.username, user.is_active, user.created_at is not None) == ("ada", True, True)
    assert statements == []


def test_a_savepoint_rolls_back_alone(database: Database) -> None:
    """What failed inside is undone, what stands around it is kept."""
    with transaction(database) as session:
        session.add(_user("ada"))
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.add(_user("eve"))
            session.flush()
            raise ZeroDivisionError
        session.add(_user("grace"))
    assert _names(database) == ["ada", "grace"]


async def test_an_async_savepoint_rolls_back_alone(database: Database) -> None:
    """The same with an async session."""
    async with async_transaction(database) as session:
        session.add(_user("ada"))
        with pytest.raises(ZeroDivisionError):
            async with session.begin_nested():
                session.add(_user("eve"))
                await session.flush()
                raise ZeroDivisionError
    assert _names(database) == ["ada"]
    await database.aclose()


@pytest.mark.parametrize("statement", WRITES)
def test_a_reading_session_writes_nothing(database: Database, statement: str) -> None:
    """The server itself refuses, raw SQL included (25006)."""
    with pytest.raises(DBAPIError) as raised, reading(database) as session:
        session.execute(text(statement))
    assert _sqlstate(raised.value) == "25006"


@pytest.mark.parametrize("statement", WRITES)
async def test_an_async_reading_session_writes_nothing(database: Database, statement: str) -> None:
    """The same with an async session."""
    with pytest.raises(DBAPIError) as raised:
        async with async_reading(database) as session:
            await session.execute(text(statement))
    assert _sqlstate(raised.value) == "25006"
    await database.aclose()


def test_what_a_reading_session_adds_is_refused(database: Database) -> None:
    """An ORM flush is a write like any other."""
    with pytest.raises(DBAPIError) as raised, reading(database) as session:
        session.add(_user("eve"))
        session.flush()
    assert _sqlstate(raised.value) == "25006"


def test_every_connection_comes_back(database: Database) -> None:
    """After more units than the pool has places, none is missing."""
    for number in range(30):
        with reading(database) as session:
            session.scalar(text("SELECT 1"))
        with pytest.raises(DBAPIError), transaction(database) as session:
            session.scalar(text("SELECT 1/0"))
        with transaction(database) as session:
            session.add(_user(f"user{number}"))
    pool: Any = database.engine.pool
    assert (pool.checkedout(), pool.checkedin()) == (0, 1)


def test_of_two_threads_that_change_a_row_neither_is_lost(database: Database) -> None:
    """With the row locked by the one, the other waits and sees what it wrote."""
    with transaction(database) as session:
        session.add(_user("xxx"))
    together = threading.Barrier(2)

    def append() -> None:
        with transaction(database) as session:
            together.wait()
            user = session.scalars(select(User).with_for_update()).one()
            user.username += "y"

    threads = [threading.Thread(target=append) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _names(database) == ["xxxyy"]


async def test_cancelled_work_gives_its_connection_back(database: Database) -> None:
    """A task that is cancelled in the middle of a query leaves no place taken and nothing stored."""
    began = asyncio.Event()

    async def work() -> None:
        async with async_transaction(database) as session:
            session.add(_user("ada"))
            await session.flush()
            began.set()
            await session.execute(text("SELECT pg_sleep(60)"))

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pool: Any = database.async_engine.pool
    assert pool.checkedout() == 0
    async with async_reading(database) as session:
        assert (await session.scalars(NAMES)).all() == []
    await database.aclose()


def _names(database: Database) -> list[str]:
    with reading(database) as session:
        return list(session.scalars(NAMES))


def _sqlstate(error: DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state
