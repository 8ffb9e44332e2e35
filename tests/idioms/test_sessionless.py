"""Compiled queries that routes ask of the database, without a session: beside sessions, at once, and late."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends
from fastapi.responses import StreamingResponse
from sqlalchemy import Select, func, select, text

from lib.onetrip.fastapi.sessions import AsyncReadSessionDep, AsyncSessionDep, DatabaseDep, SessionDep
from lib.onetrip.session.compiled import compiled
from tests.idioms.conftest import Idiom, Item, until

INSERT = text("INSERT INTO items (name) VALUES (:name)")


@compiled
def item_named(name: str) -> Select[Item]:
    """The item of that name."""
    return select(Item).where(Item.name == name)


@compiled
def number(like: str) -> Select[int]:
    """The number of items of such names."""
    return select(func.count(Item.id)).where(Item.name.like(like))


@pytest.fixture(params=["development", "production"])
def variables(request: pytest.FixtureRequest) -> dict[str, object]:
    """In development SQLAlchemy executes the statements, so that its warnings come."""
    return {"ENVIRONMENT": request.param}


@pytest.mark.parametrize("size", [1, 40])
def test_many_ask_at_once(idiom: Idiom, size: int) -> None:
    """In threads and in the loop, each gets its own row; one that is not there is a 404 of the route's."""
    idiom.run("INSERT INTO items (name) SELECT 'item ' || n FROM generate_series(0, 39) n")

    @idiom.app.get("/def/{n}")
    def in_a_thread(n: int, database: DatabaseDep) -> str:
        return item_named.one(database, f"item {n}").name

    @idiom.app.get("/async/{n}")
    async def in_the_loop(n: int, database: DatabaseDep) -> str:
        return (await item_named.async_one(database, f"item {n}")).name

    for path in ("/def/{n}", "/async/{n}"):
        replies = idiom.at_once(path, "GET", size)
        assert [reply.json for reply in replies] == [f"item {n}" for n in range(size)]


def test_a_caller_is_looked_up_before_and_after_a_write(idiom: Idiom) -> None:
    """A session that has not begun or has ended leaves the request's one connection to the query."""

    def caller(database: DatabaseDep) -> int:
        return number.one(database, "caller%")

    async def async_caller(database: DatabaseDep) -> int:
        return await number.async_one(database, "caller%")

    @idiom.app.post("/def/{n}", status_code=201)
    def write(
        n: int, session: SessionDep, who: Annotated[int, Depends(caller)], database: DatabaseDep
    ) -> int:
        session.execute(INSERT, {"name": f"def {n}"})
        session.commit()
        return who + number.one(database, f"def {n}")

    @idiom.app.post("/async/{n}", status_code=201)
    async def async_write(
        n: int, session: AsyncSessionDep, who: Annotated[int, Depends(async_caller)], database: DatabaseDep
    ) -> int:
        await session.execute(INSERT, {"name": f"async {n}"})
        await session.commit()
        return who + await number.async_one(database, f"async {n}")

    for kind in ("def", "async"):
        replies = idiom.at_once(f"/{kind}/{{n}}")
        assert [(reply.status, reply.json) for reply in replies] == [(201, 1)] * 8
    assert len(idiom.names) == 16


def test_beside_an_open_transaction_it_is_refused_and_nothing_is_stored(idiom: Idiom) -> None:
    """It would need a second connection: an error that names the way, at once, as for another session."""

    @idiom.app.post("/def")
    def beside(session: SessionDep, database: DatabaseDep) -> int:
        session.execute(INSERT, {"name": "lost"})
        return number.one(database, "lost")

    @idiom.app.post("/async")
    async def async_beside(session: AsyncSessionDep, database: DatabaseDep) -> int:
        await session.execute(INSERT, {"name": "lost"})
        return await number.async_one(database, "lost")

    for path in ("/def", "/async"):
        assert idiom.statuses(path) == {500}
    assert idiom.names == []


def test_several_of_one_request_take_turns(idiom: Idiom) -> None:
    """`asyncio.gather`, an executor's threads, a reading session beside them: each is answered."""
    idiom.run("INSERT INTO items (name) VALUES ('one')")

    @idiom.app.get("/gather")
    async def gather(session: AsyncReadSessionDep, database: DatabaseDep) -> int:
        found = await asyncio.gather(*(number.async_one(database, "one") for _ in range(4)))
        return sum(found) + await number.async_one(session, "one")

    @idiom.app.get("/threads")
    def threads(database: DatabaseDep) -> int:
        with ThreadPoolExecutor(4) as executor:
            return sum(executor.map(lambda _: number.one(database, "one"), range(4)))

    assert {(reply.status, reply.json) for reply in idiom.at_once("/gather", "GET")} == {(200, 5)}
    assert {(reply.status, reply.json) for reply in idiom.at_once("/threads", "GET", 2)} == {(200, 4)}


def test_work_after_the_answer_asks_as_well(idiom: Idiom) -> None:
    """In a thread and in the loop."""
    seen: list[Any] = []

    @idiom.app.post("/late", status_code=202)
    async def late(tasks: BackgroundTasks, database: DatabaseDep) -> None:
        async def asked() -> None:
            seen.append(await number.async_one(database, "%"))

        tasks.add_task(lambda: seen.append(number.one(database, "%")))
        tasks.add_task(asked)

    assert idiom.statuses("/late") == {202}
    until(lambda: seen == [0] * 16)


def test_streams_ask_as_well(idiom: Idiom) -> None:
    """No session of the route's has to be open for them."""

    @idiom.app.get("/stream")
    async def stream(database: DatabaseDep) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(3):
                yield str(await number.async_one(database, "%"))

        return StreamingResponse(parts())

    @idiom.app.get("/stream/def")
    def stream_def(database: DatabaseDep) -> StreamingResponse:
        def parts() -> Iterator[str]:
            for _ in range(3):
                yield str(number.one(database, "%"))

        return StreamingResponse(parts())

    for path in ("/stream", "/stream/def"):
        assert {reply.body for reply in idiom.at_once(path, "GET")} == {b"000"}
