"""Threads and tasks of a request with sessions of their own, while the request holds a connection."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from lib.onetrip.fastapi.sessions import AsyncSessionDep, ReadSessionDep, SessionDep
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_transaction, transaction
from tests.idioms.conftest import Idiom

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("place", ["server-direct", "server-pooled"])]

INSERT = text("INSERT INTO items (name) VALUES (:name)")
Work = Callable[[], Any]


@pytest.fixture
def variables() -> dict[str, object]:
    """A request that waited in vain would be seen: no test takes as long."""
    return {"DATABASE_POOL_TIMEOUT": "60", "REQUEST_TIMEOUT_SECONDS": "55"}


def _in_executor(work: Work) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(work).result()


def _in_thread(work: Work) -> None:
    errors: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (raised by the route)
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error


def _own(database: Database, name: str) -> Work:
    def own() -> None:
        with transaction(database) as session:
            session.execute(INSERT, {"name": name})

    return own


def _own_async(database: Database, name: str) -> Work:
    async def own() -> None:
        async with async_transaction(database) as session:
            await session.execute(INSERT, {"name": name})

    return lambda: asyncio.run(own())


def _none_waited_in_vain(idiom: Idiom, number: int = 4) -> None:
    """Each was served, or refused with the remedy before the time for waiting was over."""
    begin = time.monotonic()
    replies = idiom.at_once("/thread/{n}", number=number)
    assert time.monotonic() - begin < 30
    assert {reply.status for reply in replies} <= {200, 500}
    refused = [reply.json["detail"] for reply in replies if reply.status == 500]
    assert all("end its transaction first" in detail for detail in refused)
    # What was served stored both rows, and what was refused none of its route.
    assert len([name for name in idiom.names if name.startswith("route")]) == number - len(refused)


@pytest.mark.parametrize("run", [_in_executor, _in_thread])
@pytest.mark.parametrize("own", [_own, _own_async])
def test_a_thread_that_does_not_know_its_request(idiom: Idiom, run: Any, own: Any) -> None:
    """It cannot tell who waits for it: once all who hold connections stand still, it is refused."""

    @idiom.app.post("/thread/{n}")
    def route(n: int, session: SessionDep) -> None:
        session.execute(INSERT, {"name": f"route {n}"})
        run(own(idiom.database, f"thread {n}"))

    _none_waited_in_vain(idiom)


@pytest.mark.parametrize("own", [_own, _own_async])
def test_an_executor_of_an_async_route(idiom: Idiom, own: Any) -> None:
    """`run_in_executor` carries no context over, either."""

    @idiom.app.post("/thread/{n}")
    async def route(n: int, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": f"route {n}"})
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, own(idiom.database, f"thread {n}"))

    _none_waited_in_vain(idiom)


@pytest.mark.parametrize("number", [1, 8])
@pytest.mark.parametrize("own", [_own, _own_async])
def test_a_thread_that_knows_its_request(idiom: Idiom, own: Any, number: int) -> None:
    """In `asyncio.to_thread` it is refused at once, alone as under load."""

    @idiom.app.post("/thread/{n}")
    async def route(n: int, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": f"route {n}"})
        await asyncio.to_thread(own(idiom.database, f"thread {n}"))

    _none_waited_in_vain(idiom, number)
    assert idiom.names == []


def test_a_place_that_was_taken_ahead_is_left_to_a_thread(idiom: Idiom) -> None:
    """A session that was not used yet holds nothing that its request's thread would wait for."""

    @idiom.app.post("/thread/{n}")
    def route(n: int, session: SessionDep) -> None:
        _in_executor(_own(idiom.database, f"thread {n}"))
        session.execute(INSERT, {"name": f"route {n}"})

    assert {reply.status for reply in idiom.at_once("/thread/{n}", number=4)} == {200}
    assert len(idiom.names) == 8


@pytest.mark.parametrize("number", [1, 4])
def test_a_session_in_a_thread_with_a_transaction_beside_it(idiom: Idiom, number: int) -> None:
    """The route's session stays with the route, whichever thread uses it: the other is refused at once."""

    def write(session: Session, name: str) -> None:
        session.execute(INSERT, {"name": name})
        time.sleep(0.3)

    @idiom.app.post("/thread/{n}")
    async def route(n: int, session: SessionDep) -> None:
        used = asyncio.create_task(asyncio.to_thread(write, session, f"route {n}"))
        await asyncio.sleep(0.15)
        try:
            await asyncio.to_thread(_own(idiom.database, f"thread {n}"))
        finally:
            await used

    _none_waited_in_vain(idiom, number)


@pytest.mark.parametrize("number", [1, 4])
def test_a_kept_session_that_a_task_left_open(idiom: Idiom, number: int) -> None:
    """A part that waits for a task's turn is refused once the task has ended and left it taken."""

    @idiom.app.post("/thread/{n}")
    async def route(n: int) -> None:
        with Session(idiom.database.engine) as kept:

            def write() -> None:
                kept.execute(INSERT, {"name": f"never {n}"})
                time.sleep(0.3)

            used = asyncio.create_task(asyncio.to_thread(write))
            await asyncio.sleep(0.15)
            try:
                async with async_transaction(idiom.database) as own:
                    await own.execute(INSERT, {"name": f"route {n}"})
            finally:
                await used

    _none_waited_in_vain(idiom, number)


def test_reads_that_wait_leave_threads_to_those_who_hold_connections(idiom: Idiom) -> None:
    """More reads than worker threads wait for a connection, and the writes that have all of them end."""

    @idiom.app.post("/write/{n}")
    def write(n: int, session: SessionDep) -> None:
        session.execute(text("SELECT pg_sleep(0.3)"))
        session.execute(INSERT, {"name": f"{n}"})

    @idiom.app.post("/read/{n}")
    def read(session: ReadSessionDep) -> Any:
        return session.scalar(text("SELECT 1"))

    assert idiom.client
    begin = time.monotonic()
    with ThreadPoolExecutor(108) as clients:
        writes = [clients.submit(idiom.ask, f"/write/{n}") for n in range(8)]
        time.sleep(0.1)
        reads = [clients.submit(idiom.ask, f"/read/{n}") for n in range(100)]
        assert {reply.result().status for reply in [*writes, *reads]} == {200}
    assert time.monotonic() - begin < 30
    assert len(idiom.names) == 8
