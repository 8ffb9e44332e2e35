"""Statements beyond plain ones in routes: locks, COPY, several in one text, streams, engines alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from lib.onetrip.fastapi.sessions import AsyncReadSessionDep, AsyncSessionDep, ReadSessionDep, SessionDep
from lib.onetrip.pool.database import Database
from tests.idioms.conftest import Idiom, Item

pytestmark = pytest.mark.slow

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")
WAYS = ("/sync/{n}", "/async/{n}")


def both_ways(idiom: Idiom, work: Any) -> None:
    """Add a route for sync sessions and one for async ones that do the same work."""

    @idiom.app.post("/sync/{n}")
    def sync_route(n: int, session: SessionDep) -> Any:
        return work(session, n)

    @idiom.app.post("/async/{n}")
    async def async_route(n: int, session: AsyncSessionDep) -> Any:
        return await session.run_sync(work, n)


@pytest.mark.parametrize("path", WAYS)
def test_waiting_work_is_taken_once(idiom: Idiom, path: str) -> None:
    """`FOR UPDATE SKIP LOCKED`: eight at once take eight rows, each of them once."""
    idiom.run("INSERT INTO items (name) SELECT n::text FROM generate_series(1, 8) n")

    def work(session: Session, _n: int) -> Any:
        item = session.scalars(select(Item).limit(1).with_for_update(skip_locked=True)).one()
        session.delete(item)
        return item.name

    both_ways(idiom, work)
    replies = idiom.at_once(path)
    assert sorted(reply.json for reply in replies) == [f"{n}" for n in range(1, 9)]
    assert idiom.names == []


@pytest.mark.parametrize("path", WAYS)
def test_a_row_that_is_locked_is_told_at_once(idiom: Idiom, path: str) -> None:
    """`NOWAIT`, against a lock that stays: 503, which says that others hold it, and no wait."""
    idiom.run("INSERT INTO items (name) VALUES ('a')")

    def work(session: Session, _n: int) -> Any:
        return session.scalars(select(Item.name).with_for_update(nowait=True)).one()

    both_ways(idiom, work)
    with idiom.database.engine.begin() as other:
        other.execute(text("SELECT 1 FROM items FOR UPDATE"))
        assert idiom.ask(path.format(n=1)).status == 503
    assert idiom.ask(path.format(n=1)).json == "a"


@pytest.mark.parametrize("path", WAYS)
def test_serializable_conflicts_are_run_again(idiom: Idiom, path: str) -> None:
    """Eight at once count each other's rows: all succeed, one after another."""

    def work(session: Session, _n: int) -> Any:
        session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        count = session.scalar(text("SELECT count(*) FROM items"))
        session.execute(INSERT, {"name": f"{count}"})
        return count

    both_ways(idiom, work)
    assert idiom.statuses(path) == {200}
    assert idiom.names == [f"{n}" for n in range(8)]


def _copied_in(connection: Any, n: int) -> None:
    with connection.cursor().copy("COPY items (name) FROM STDIN") as copy:
        copy.write(f"copied {n}\n")


async def _copied_in_async(connection: Any, n: int) -> None:
    async with connection.cursor().copy("COPY items (name) FROM STDIN") as copy:
        await copy.write(f"copied {n}\n")


@pytest.mark.parametrize("path", WAYS)
def test_copy_belongs_to_the_sessions_transaction(idiom: Idiom, path: str) -> None:
    """Rows by COPY are stored with the route's others, or not at all."""

    def work(session: Session, n: int) -> None:
        session.execute(INSERT, {"name": f"plain {n}"})
        driver: Any = session.connection().connection.driver_connection
        if path == "/sync/{n}":
            _copied_in(driver, n)
        else:
            await_only(_copied_in_async(driver, n))
        if n % 2:
            raise ValueError

    both_ways(idiom, work)
    assert sorted(reply.status for reply in idiom.at_once(path)) == [200] * 4 + [500] * 4
    assert idiom.names == [f"{kind} {n}" for kind in ("copied", "plain") for n in (0, 2, 4, 6)]


@pytest.mark.parametrize("path", WAYS)
def test_several_statements_in_one_text(idiom: Idiom, path: str) -> None:
    """They belong to the transaction; a percent sign is doubled for the driver, and itself in `text`."""

    def work(session: Session, n: int) -> Any:
        session.connection().exec_driver_sql(
            f"INSERT INTO items (name) VALUES ('a {n}'); INSERT INTO items (name) VALUES ('100%% {n}')"  # noqa: S608
        )
        if n % 2:
            raise ValueError
        return session.scalar(text("SELECT '100%'"))

    both_ways(idiom, work)
    replies = idiom.at_once(path)
    assert [reply.json for reply in replies if reply.status == 200] == ["100%"] * 4
    assert len(idiom.names) == 8


@pytest.mark.parametrize("path", WAYS)
def test_many_rows_at_once(idiom: Idiom, path: str) -> None:
    """By `add_all`, by a list of parameters and by RETURNING: all of them, once."""

    def work(session: Session, n: int) -> Any:
        session.add_all(Item(name=f"orm {n} {row}") for row in range(300))
        session.execute(insert(Item), [{"name": f"core {n} {row}"} for row in range(300)])
        rows = [{"name": f"back {n} {row}"} for row in range(300)]
        return len(session.scalars(insert(Item).returning(Item.id), rows).all())

    both_ways(idiom, work)
    assert {reply.json for reply in idiom.at_once(path, number=2)} == {300}
    assert len(idiom.names) == 1800


def test_engines_without_a_session(idiom: Idiom) -> None:
    """`begin()`, `connect()` with commit, `raw_connection()`: each stores what it commits, and no more."""
    engine, async_engine = idiom.database.engine, idiom.database.async_engine

    @idiom.app.post("/begin/{n}")
    def begin(n: int) -> None:
        with engine.begin() as connection:
            connection.execute(INSERT, {"name": f"begin {n}"})

    @idiom.app.post("/connect/{n}")
    def connect(n: int) -> None:
        with engine.connect() as connection:
            connection.execute(INSERT, {"name": f"connect {n}"})
            connection.commit()
            connection.execute(INSERT, {"name": f"never {n}"})

    @idiom.app.post("/async/{n}")
    async def async_connect(n: int) -> None:
        async with async_engine.connect() as connection:
            await connection.execute(INSERT, {"name": f"async {n}"})
            await connection.commit()
            await connection.execute(INSERT, {"name": f"never {n}"})

    @idiom.app.post("/raw/{n}")
    def raw(n: int) -> None:
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("INSERT INTO items (name) VALUES (%s)", [f"raw {n}"])
            connection.commit()
            connection.cursor().execute("INSERT INTO items (name) VALUES (%s)", [f"never {n}"])
            connection.rollback()
        finally:
            connection.close()

    for path in ("/begin/{n}", "/connect/{n}", "/async/{n}", "/raw/{n}"):
        assert idiom.statuses(path) == {200}, path
    assert idiom.names == sorted(
        f"{way} {n}" for way in ("async", "begin", "connect", "raw") for n in range(8)
    )


def test_rows_of_a_stream_in_a_route(idiom: Idiom) -> None:
    """`yield_per`, `stream_scalars` and partitions, read to the end or left half read."""
    rows = text("SELECT generate_series(1, 500)")

    @idiom.app.post("/sync/{n}")
    def sync_route(n: int, session: ReadSessionDep) -> int:
        parts = session.scalars(rows, execution_options={"yield_per": 50}).partitions()
        return sum(len(part) for part in parts) + n * 0

    @idiom.app.post("/async/{n}")
    async def async_route(n: int, session: AsyncReadSessionDep) -> int:
        found = await session.stream_scalars(rows, execution_options={"yield_per": 50})
        return len([row async for row in found]) + n * 0

    @idiom.app.post("/half/{n}")
    def half(n: int, session: SessionDep) -> None:
        with session.execute(rows, execution_options={"yield_per": 50}) as found:
            next(found)
        session.execute(INSERT, {"name": f"{n}"})

    for path in WAYS:
        assert {reply.json for reply in idiom.at_once(path)} == {500}
    assert idiom.statuses("/half/{n}") == {200}
    assert len(idiom.names) == 8


@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
def test_a_mounted_application_with_a_lifespan_of_its_own(idiom: Idiom) -> None:
    """FastAPI runs that of the outer one; called from there, the inner one's uses the database, too."""
    database = idiom.database

    @asynccontextmanager
    async def inner(_app: FastAPI) -> AsyncIterator[None]:
        await _noted(database, "begun")
        yield
        await _noted(database, "ended")

    other = FastAPI(lifespan=inner)

    @other.post("/write/{n}")
    async def write(n: int, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": f"{n}"})

    @asynccontextmanager
    async def outer(_app: FastAPI) -> AsyncIterator[None]:
        async with other.router.lifespan_context(other):
            yield

    idiom.app.mount("/sub", other)
    idiom.app.router.lifespan_context = outer
    with TestClient(idiom.app) as client:
        assert client.post("/sub/write/1").status_code == 200
        assert client.portal is not None
        client.portal.call(database.aclose)
    assert idiom.names == ["1", "begun", "ended"]
    idiom.run("TRUNCATE items CASCADE")


async def _noted(database: Database, name: str) -> None:
    async with database.async_engine.begin() as connection:
        await connection.execute(INSERT, {"name": name})
    await asyncio.sleep(0)
