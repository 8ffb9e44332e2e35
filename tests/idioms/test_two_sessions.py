"""One request that opens several sessions: they take turns with one connection, or are refused at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from lib.onetrip.fastapi.sessions import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    DatabaseDep,
    ReadSessionDep,
    SessionDep,
    get_session,
)
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction
from tests.idioms.conftest import Idiom, Item

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")
BRIEFLY = text("SELECT pg_sleep(0.02)")
LOCK = text("SELECT pg_advisory_xact_lock_shared(1)")
FIND = text("SELECT name FROM items WHERE name = 'caller'")
ROWS = text("SELECT generate_series(1, 500)")


@pytest.mark.slow
def test_a_caller_is_looked_up_in_a_session_of_another_kind(idiom: Idiom) -> None:
    """A dependency reads with one kind of session, the route writes with another: all are served."""

    def sync_caller(session: ReadSessionDep) -> Any:
        return session.scalar(ONE)

    async def async_caller(session: AsyncReadSessionDep) -> Any:
        return await session.scalar(ONE)

    for name, caller in (("sync", sync_caller), ("async", async_caller)):

        @idiom.app.post(f"/sync/{name}/{{n}}", status_code=201)
        def sync_route(n: int, session: SessionDep, who: Annotated[int, Depends(caller)]) -> int:
            session.execute(INSERT, {"name": f"{who}{n}sync"})
            session.execute(BRIEFLY)
            return who

        @idiom.app.post(f"/async/{name}/{{n}}", status_code=201)
        async def async_route(n: int, session: AsyncSessionDep, who: Annotated[int, Depends(caller)]) -> int:
            await session.execute(INSERT, {"name": f"{who}{n}async"})
            await session.execute(BRIEFLY)
            return who

    for name in ("sync", "async"):
        idiom.run("TRUNCATE items CASCADE")
        assert idiom.statuses(f"/sync/{name}/{{n}}") == {201}
        assert idiom.statuses(f"/async/{name}/{{n}}") == {201}
        assert len(idiom.names) == 16


def test_the_same_session_is_given_to_a_dependency_and_its_route(idiom: Idiom) -> None:
    """One kind of session in a request is one session: one transaction, committed once."""

    def caller(session: SessionDep) -> Any:
        session.execute(INSERT, {"name": "seen"})
        return session

    @idiom.app.post("/one", status_code=201)
    def one(session: SessionDep, other: Annotated[Any, Depends(caller)]) -> bool:
        session.execute(ONE)
        return session is other

    assert idiom.ask("/one").json is True
    assert idiom.names == ["seen"]


@pytest.mark.slow
def test_a_function_opens_its_own_transaction(idiom: Idiom) -> None:
    """It is committed by itself where the route holds no connection, and refused at once where it does."""

    def audit(database: Database, name: str) -> None:
        with transaction(database) as session:
            session.execute(INSERT, {"name": name})

    async def async_audit(database: Database, name: str) -> None:
        async with async_transaction(database) as session:
            await session.execute(INSERT, {"name": name})

    @idiom.app.post("/before/sync/{n}", status_code=201)
    def before(n: int, session: SessionDep, database: DatabaseDep) -> None:
        audit(database, f"audit sync {n}")
        session.execute(INSERT, {"name": f"route sync {n}"})
        session.commit()
        audit(database, f"after sync {n}")

    @idiom.app.post("/before/async/{n}", status_code=201)
    async def async_before(n: int, session: AsyncSessionDep, database: DatabaseDep) -> None:
        await async_audit(database, f"audit async {n}")
        await session.execute(INSERT, {"name": f"route async {n}"})
        await session.commit()
        await async_audit(database, f"after async {n}")

    @idiom.app.post("/holding/sync")
    def holding(session: SessionDep, database: DatabaseDep) -> None:
        session.execute(INSERT, {"name": "held"})
        audit(database, "never")

    @idiom.app.post("/holding/async")
    async def async_holding(session: AsyncSessionDep, database: DatabaseDep) -> None:
        await session.execute(INSERT, {"name": "held"})
        await async_audit(database, "never")

    for way in ("sync", "async"):
        assert idiom.statuses(f"/before/{way}/{{n}}") == {201}
        refused = idiom.at_once(f"/holding/{way}")
        assert {reply.status for reply in refused} == {500}
        assert all("Pass that session on" in reply.json["detail"] for reply in refused)
    assert len(idiom.names) == 48


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 8])
def test_a_second_connection_is_refused_alone_as_under_load(idiom: Idiom, number: int) -> None:
    """Whichever sessions they are: one that asks while another is in the midst of more than reading."""

    @idiom.app.post("/sync-async")
    async def sync_async(session: SessionDep, other: AsyncSessionDep) -> None:
        session.execute(LOCK)
        await other.execute(ONE)

    @idiom.app.post("/async-sync")
    async def async_sync(session: AsyncSessionDep, other: SessionDep) -> None:
        await session.execute(LOCK)
        other.execute(ONE)

    @idiom.app.post("/write-read")
    def write_read(session: SessionDep, other: ReadSessionDep) -> None:
        session.execute(LOCK)
        other.execute(ONE)

    @idiom.app.post("/uncached")
    def uncached(
        session: SessionDep, other: Annotated[Any, Depends(get_session, use_cache=False, scope="function")]
    ) -> None:
        session.execute(LOCK)
        other.execute(ONE)

    @idiom.app.post("/engine")
    def engine(session: SessionDep, database: DatabaseDep) -> None:
        session.execute(LOCK)
        with database.engine.connect() as connection:
            connection.execute(ONE)

    @idiom.app.post("/thread")
    async def thread(session: AsyncSessionDep, database: DatabaseDep) -> None:
        def work() -> None:
            with transaction(database) as other:
                other.execute(ONE)

        await session.execute(LOCK)
        await anyio.to_thread.run_sync(work)

    for path in ("/sync-async", "/async-sync", "/write-read", "/uncached", "/engine", "/thread"):
        replies = idiom.at_once(path, number=number)
        assert {reply.status for reply in replies} == {500}, path
        assert all("one connection at a time" in reply.json["detail"] for reply in replies), path


# A dependency that looks its caller up, by each kind of session.
def _sync_caller(session: SessionDep) -> Any:
    return session.scalar(FIND)


async def _async_caller(session: AsyncSessionDep) -> Any:
    return await session.scalar(FIND)


def _kept_caller(database: DatabaseDep) -> Iterator[Any]:
    with Session(database.engine) as session:
        yield session.scalar(FIND)


async def _kept_async_caller(database: DatabaseDep) -> AsyncIterator[Any]:
    async with AsyncSession(database.async_engine) as session:
        yield await session.scalar(FIND)


@pytest.mark.parametrize("caller", [_sync_caller, _async_caller, _kept_caller, _kept_async_caller])
def test_a_transaction_that_only_read_makes_way_for_another_session(idiom: Idiom, caller: Any) -> None:
    """A caller who was looked up by any session, sync or async or kept, hinders no other session."""
    idiom.run("INSERT INTO items (name) VALUES ('caller')")

    @idiom.app.post("/sync/{n}")
    def sync_route(n: int, who: Annotated[str, Depends(caller)], session: SessionDep) -> None:
        session.execute(INSERT, {"name": f"{who} sync {n}"})

    @idiom.app.post("/async/{n}")
    async def async_route(n: int, who: Annotated[str, Depends(caller)], session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": f"{who} async {n}"})

    @idiom.app.post("/read/{n}")
    def read(n: int, who: Annotated[str, Depends(caller)], session: ReadSessionDep) -> None:
        assert who == session.scalar(FIND), n

    @idiom.app.post("/own/{n}")
    def own(n: int, who: Annotated[str, Depends(caller)], database: DatabaseDep) -> None:
        with transaction(database) as session:
            session.execute(INSERT, {"name": f"{who} own {n}"})

    paths = ["/sync/{n}", "/async/{n}", "/read/{n}", "/own/{n}"]
    if idiom.door == "lambda" and caller in (_async_caller, _kept_async_caller):
        # There a sync session asks in the loop's own thread, which the async one's end would need.
        paths = ["/async/{n}"]
    for path in paths:
        assert idiom.statuses(path) == {200}, path


MORE_THAN_READING = [
    "INSERT INTO items (name) VALUES ('held')",
    "SELECT id FROM items FOR UPDATE",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT set_config('app.tenant', '1', true)",
    "SET LOCAL app.tenant = '1'",
    "WITH a AS (DELETE FROM items RETURNING id) SELECT id FROM a",
    "SELECT nextval('items_id_seq')",
    'SELECT "pg_advisory_xact_lock" (1)',
    "DECLARE c CURSOR FOR SELECT 1",
]


@pytest.mark.parametrize("statement", MORE_THAN_READING)
def test_a_transaction_that_did_more_makes_no_way(idiom: Idiom, statement: str) -> None:
    """What it holds, set or wrote would be gone: the other session is refused at once."""

    @idiom.app.post("/more")
    def more(session: SessionDep, reads: ReadSessionDep) -> None:
        session.execute(ONE)
        session.execute(text(statement))
        reads.execute(ONE)

    assert idiom.statuses("/more") == {500}
    assert "held" not in idiom.names


def _repeatable_read(session: Session) -> None:
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    session.execute(ONE)


def _begun(session: Session) -> None:
    session.begin()
    session.execute(ONE)


def _by_the_driver(session: Session) -> None:
    session.execute(ONE)
    session.connection().connection.cursor().execute("INSERT INTO items (name) VALUES ('held')")


def _row_by_row(session: Session) -> None:
    next(iter(session.execute(ROWS, execution_options={"yield_per": 10})))


# psycopg warns of a server-side cursor that is left open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", [_repeatable_read, _begun, _by_the_driver, _row_by_row])
def test_a_transaction_whose_end_could_be_noticed_makes_no_way(idiom: Idiom, work: Any) -> None:
    """A snapshot, a block of `begin()`, a connection in the route's hands, a stream that is half read."""

    @idiom.app.post("/more")
    def more(session: SessionDep, other: ReadSessionDep) -> None:
        work(session)
        other.execute(ONE)

    assert idiom.statuses("/more") == {500}
    assert idiom.names == []


def test_a_session_that_made_way_goes_on(idiom: Idiom) -> None:
    """Its objects stay, what was added is stored, and it reads what the other one committed."""

    @idiom.app.post("/back/{n}")
    def back(n: int, session: SessionDep, database: DatabaseDep) -> Any:
        found = session.scalars(select(Item)).all()
        session.add(Item(name=f"first {n}"))
        with transaction(database) as other:
            other.execute(INSERT, {"name": f"other {n}"})
        assert all(item in session for item in found)
        return session.scalar(select(Item.name).where(Item.name == f"other {n}"))

    assert sorted(reply.json for reply in idiom.at_once("/back/{n}")) == [f"other {n}" for n in range(8)]
    assert len(idiom.names) == 16


@pytest.mark.parametrize("reads", [False, True])
def test_a_session_is_used_by_two_tasks_at_once(idiom: Idiom, reads: bool) -> None:  # noqa: FBT001
    """The second one is refused with the remedy, and the connection comes back."""

    @idiom.app.post("/gather")
    async def gather(write: AsyncSessionDep, read: AsyncReadSessionDep) -> None:
        session = read if reads else write
        await asyncio.gather(session.execute(BRIEFLY), session.execute(ONE))

    replies = idiom.at_once("/gather")
    assert {reply.status for reply in replies} == {500}
    assert all("at the same time" in reply.json["detail"] for reply in replies)


def test_a_session_is_passed_to_other_threads(idiom: Idiom) -> None:
    """To an executor's, which knows nothing of the request, and to FastAPI's: one after another it works."""

    def write(session: Session, name: str) -> None:
        session.execute(INSERT, {"name": name})

    @idiom.app.post("/executor/{n}")
    def executor(n: int, session: SessionDep) -> None:
        with ThreadPoolExecutor() as threads:
            threads.submit(write, session, f"executor {n}").result()

    @idiom.app.post("/thread/{n}")
    async def thread(n: int, session: SessionDep) -> None:
        await asyncio.to_thread(write, session, f"thread {n}")
        await run_in_threadpool(write, session, f"pool {n}")

    assert idiom.statuses("/executor/{n}") == {200}
    assert idiom.statuses("/thread/{n}") == {200}
    assert len(idiom.names) == 24


def test_what_a_task_left_open_is_waited_for_by_none(idiom: Idiom) -> None:
    """A session that a task used, which has ended: one beside it is refused at once."""

    async def write(session: AsyncSession) -> None:
        await session.execute(INSERT, {"name": "never"})

    async def own(database: Database) -> None:
        async with async_transaction(database) as other:
            await other.execute(ONE)

    @idiom.app.post("/task")
    async def task(session: AsyncSessionDep, database: DatabaseDep) -> None:
        done = asyncio.create_task(write(session))
        await done
        await own(database)

    replies = idiom.at_once("/task")
    assert {reply.status for reply in replies} == {500}
    assert all("one connection at a time" in reply.json["detail"] for reply in replies)
    assert idiom.names == []


def test_read_sessions_beside_each_other_hold_nothing(idiom: Idiom) -> None:
    """Sync and async, in dependencies and in functions, reading sessions never wait for another."""

    @idiom.app.post("/reads")
    async def reads(a: AsyncReadSessionDep, database: DatabaseDep, b: ReadSessionDep) -> int:
        seen = await a.scalar(ONE)
        with reading(database) as mine:
            seen += mine.scalar(ONE)
            seen += b.scalar(ONE)
        async with async_reading(database) as other:
            seen += await other.scalar(ONE) + await a.scalar(ONE)
        return int(seen)

    @idiom.app.post("/sync-reads")
    def sync_reads(database: DatabaseDep, session: ReadSessionDep) -> int:
        with reading(database) as mine:
            return int(mine.scalar(ONE) + session.scalar(ONE) + mine.scalar(ONE))

    assert {reply.json for reply in idiom.at_once("/sync-reads")} == {3}
    if idiom.door == "lambda":
        assert {reply.json for reply in idiom.at_once("/reads")} == {5}


@pytest.mark.slow
def test_parts_of_a_request_run_concurrently(idiom: Idiom) -> None:
    """With sessions of their own they take turns: in tasks and in threads, reading and writing."""

    async def write(database: Database, name: str) -> None:
        async with async_transaction(database) as session:
            await session.execute(INSERT, {"name": name})
            await session.execute(BRIEFLY)

    async def read(database: Database) -> Any:
        async with async_reading(database) as session:
            await session.execute(BRIEFLY)
            return await session.scalar(ONE)

    def write_in_thread(database: Database, name: str) -> None:
        with transaction(database) as session:
            session.execute(INSERT, {"name": name})
            session.execute(BRIEFLY)

    @idiom.app.post("/tasks/{n}")
    async def tasks(n: int, database: DatabaseDep) -> int:
        await asyncio.gather(*(write(database, f"{n}.{part}") for part in range(3)))
        async with asyncio.TaskGroup() as group:
            found = [group.create_task(read(database)) for _ in range(3)]
        return sum(task.result() for task in found)

    @idiom.app.post("/threads/{n}")
    async def threads(n: int, database: DatabaseDep) -> int:
        await asyncio.gather(
            *(asyncio.to_thread(write_in_thread, database, f"{n}.{part}") for part in range(3))
        )
        return 3

    for path in ("/tasks/{n}", "/threads/{n}"):
        idiom.run("TRUNCATE items CASCADE")
        assert {(reply.status, reply.body) for reply in idiom.at_once(path)} == {(200, b"3")}
        assert len(idiom.names) == 24


def test_a_class_is_the_dependency(idiom: Idiom) -> None:
    """Class-based dependencies, router-level ones and generators of one's own get sessions as routes do."""

    class Items:
        def __init__(self, session: SessionDep) -> None:
            self.session = session

        def add(self, name: str) -> None:
            self.session.execute(INSERT, {"name": name})

    def cleaning_up(items: Annotated[Items, Depends(scope="function")]) -> Iterator[Items]:
        yield items
        items.add("cleaned up")

    @idiom.app.post("/class", status_code=201)
    def route(items: Annotated[Items, Depends(cleaning_up, scope="function")]) -> None:
        items.add("stored")

    assert idiom.ask("/class").status == 201
    assert idiom.names == ["cleaned up", "stored"]
