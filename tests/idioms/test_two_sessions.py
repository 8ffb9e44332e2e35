"""One request that opens several sessions: they take turns with one connection, or are refused at once."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends
from sqlalchemy import text

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
from tests.idioms.conftest import Idiom

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")
BRIEFLY = text("SELECT pg_sleep(0.02)")


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
    """Whichever sessions they are: the one that asks while another holds is refused, with the remedy."""

    @idiom.app.post("/sync-async")
    async def sync_async(session: SessionDep, other: AsyncSessionDep) -> None:
        session.execute(ONE)
        await other.execute(ONE)

    @idiom.app.post("/async-sync")
    async def async_sync(session: AsyncSessionDep, other: SessionDep) -> None:
        await session.execute(ONE)
        other.execute(ONE)

    @idiom.app.post("/write-read")
    def write_read(session: SessionDep, other: ReadSessionDep) -> None:
        session.execute(ONE)
        other.execute(ONE)

    @idiom.app.post("/uncached")
    def uncached(
        session: SessionDep, other: Annotated[Any, Depends(get_session, use_cache=False, scope="function")]
    ) -> None:
        session.execute(ONE)
        other.execute(ONE)

    @idiom.app.post("/engine")
    def engine(session: SessionDep, database: DatabaseDep) -> None:
        session.execute(ONE)
        with database.engine.connect() as connection:
            connection.execute(ONE)

    @idiom.app.post("/thread")
    async def thread(session: AsyncSessionDep, database: DatabaseDep) -> None:
        def work() -> None:
            with transaction(database) as other:
                other.execute(ONE)

        await session.execute(ONE)
        await anyio.to_thread.run_sync(work)

    for path in ("/sync-async", "/async-sync", "/write-read", "/uncached", "/engine", "/thread"):
        replies = idiom.at_once(path, number=number)
        assert {reply.status for reply in replies} == {500}, path
        assert all("one connection at a time" in reply.json["detail"] for reply in replies), path


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
