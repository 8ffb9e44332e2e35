"""Streams, background tasks, and tasks and threads that outlive their request."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import anyio
import pytest
from fastapi import BackgroundTasks, Depends
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from lib.onetrip.deadlines import current_deadline
from lib.onetrip.fastapi.sessions import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    DatabaseDep,
    ReadSessionDep,
    SessionDep,
)
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction
from tests.idioms.conftest import Idiom, until

pytestmark = pytest.mark.slow

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")
ROWS = text("SELECT generate_series(1, 500)")
WAY = ("onetrip.transaction()", "async_transaction()")


@pytest.mark.parametrize("kind", ["sync-write", "sync-read", "async-write", "async-read"])
def test_a_stream_over_the_routes_session_is_an_error_that_names_the_way(
    idiom: Idiom, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The session has ended with the route: no empty 200, no connection lost, no row that looked stored."""

    @idiom.app.post("/sync-write")
    def sync_write(session: SessionDep) -> StreamingResponse:
        return StreamingResponse(str(session.execute(INSERT, {"name": "n"})) for _ in range(3))

    @idiom.app.post("/sync-read")
    def sync_read(session: ReadSessionDep) -> StreamingResponse:
        return StreamingResponse(str(n) for n in _lazily(lambda: session.scalars(ROWS)))

    @idiom.app.post("/async-write")
    async def async_write(session: AsyncSessionDep) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield str(await session.execute(INSERT, {"name": "n"}))

        return StreamingResponse(parts())

    @idiom.app.post("/async-read")
    async def async_read(session: AsyncReadSessionDep) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            async for (n,) in await session.stream(ROWS):
                yield str(n)

        return StreamingResponse(parts())

    replies = idiom.at_once(f"/{kind}")
    assert {reply.status for reply in replies} == {500}
    assert all(way in reply.json["detail"] for reply in replies for way in WAY)
    assert "has ended" in caplog.text
    assert idiom.names == []


def _lazily(rows: Callable[[], Any]) -> Iterator[Any]:
    yield from rows()


def test_a_stream_with_a_session_of_its_own(idiom: Idiom) -> None:  # noqa: C901
    """It reads row by row from a server-side cursor, and writes; what it wrote is committed."""

    @idiom.app.post("/sync")
    def sync_stream(database: DatabaseDep) -> StreamingResponse:
        def parts() -> Iterator[str]:
            with reading(database) as session:
                for n in session.scalars(ROWS, execution_options={"yield_per": 100}):
                    yield f"{n}\n"

        return StreamingResponse(parts())

    @idiom.app.post("/async")
    async def async_stream(database: DatabaseDep) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            async with async_reading(database) as session:
                async for (n,) in await session.stream(ROWS, execution_options={"yield_per": 100}):
                    yield f"{n}\n"

        return StreamingResponse(parts())

    @idiom.app.post("/write/{n}")
    async def write(n: int, database: DatabaseDep) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for part in range(3):
                async with async_transaction(database) as session:
                    await session.execute(INSERT, {"name": f"{n} {part}"})
                yield f"{part}\n"

        return StreamingResponse(parts())

    whole = "".join(f"{n}\n" for n in range(1, 501)).encode()
    for path in ("/sync", "/async"):
        replies = idiom.at_once(path)
        assert all(reply.is_whole and reply.body == whole for reply in replies)
    assert {reply.body for reply in idiom.at_once("/write/{n}")} == {b"0\n1\n2\n"}
    assert len(idiom.names) == 24


def test_a_stream_over_a_kept_session(idiom: Idiom) -> None:
    """FastAPI ends a kept session after the stream, which reads by it and writes by one of its own."""
    session_local = sessionmaker(idiom.database.engine)

    def get_db() -> Iterator[Session]:
        with session_local() as db:
            yield db

    @idiom.app.post("/kept/{n}")
    def kept(n: int, db: Annotated[Session, Depends(get_db)], database: DatabaseDep) -> StreamingResponse:
        def parts() -> Iterator[str]:
            for part in db.scalars(text("SELECT unnest(ARRAY[1, 2])")):
                yield f"{part}\n"
            with transaction(database) as session:
                session.execute(INSERT, {"name": f"{n}"})
            yield f"{db.scalar(ONE)}\n"

        return StreamingResponse(parts())

    assert {reply.body for reply in idiom.at_once("/kept/{n}")} == {b"1\n2\n1\n"}
    assert len(idiom.names) == 8


def test_json_lines_of_a_generator_route(idiom: Idiom) -> None:
    """A route that is a generator keeps its session for as long as it runs, or is refused at once."""

    @idiom.app.post("/lines")
    async def lines(database: DatabaseDep) -> AsyncIterator[dict[str, int]]:
        async with async_reading(database) as session:
            for (n,) in (await session.execute(ROWS)).fetchmany(10):
                yield {"n": n}

    for reply in idiom.at_once("/lines"):
        assert reply.status == 200
        assert reply.body.count(b"\n") == 10


@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
def test_a_client_that_leaves_a_stream_ends_it(idiom: Idiom) -> None:
    """Its connection is given back, for one client as for eight."""
    ended: list[int] = []

    @idiom.app.post("/endless")
    async def endless(database: DatabaseDep) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            try:
                async with async_reading(database) as session:
                    stream = await session.stream(
                        text("SELECT generate_series(1, 100000000)"), execution_options={"yield_per": 10}
                    )
                    async for (n,) in stream:
                        yield f"{n}\n"
            finally:
                ended.append(1)

        return StreamingResponse(parts())

    for _ in range(8):
        with idiom.client.stream("POST", "/endless") as answer:
            assert next(answer.iter_bytes())
    until(lambda: len(ended) == 8)
    gc.collect()


def test_a_stream_holds_no_connection_that_it_does_not_use(idiom: Idiom) -> None:
    """Eight slow streams, each with a reading session open, leave the pool of two to others."""
    if idiom.door == "lambda":
        return
    opened: set[object] = set()
    most = 0

    @idiom.app.post("/slow")
    async def slow(database: DatabaseDep) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            nonlocal most
            async with async_reading(database) as session:
                opened.add(session)
                for _ in range(3):
                    yield str(await session.scalar(ONE))
                    most = max(most, len(opened))
                    await asyncio.sleep(0.5)
                opened.discard(session)

        return StreamingResponse(parts())

    assert {reply.body for reply in idiom.at_once("/slow", number=16)} == {b"111"}
    # As many as there are connections, if each kept one.
    assert most > 2


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_background_task_with_the_routes_session_names_the_way(
    idiom: Idiom, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """It fails at once and aloud; nothing is stored that is not committed."""

    @idiom.app.post("/sync", status_code=202)
    def sync_route(session: SessionDep, tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: session.execute(INSERT, {"name": "task"}))

    @idiom.app.post("/async", status_code=202)
    async def async_route(session: AsyncSessionDep, tasks: BackgroundTasks) -> None:
        async def later() -> None:
            await session.execute(INSERT, {"name": "task"})

        tasks.add_task(later)

    assert idiom.statuses(f"/{way}") == {202}
    until(lambda: "has ended with its request" in caplog.text)
    assert idiom.names == []


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_background_task_with_a_session_of_its_own(idiom: Idiom, way: str) -> None:
    """It sees what the route committed, and commits by itself."""

    @idiom.app.post("/sync/{n}", status_code=202)
    def sync_route(n: int, session: SessionDep, database: DatabaseDep, tasks: BackgroundTasks) -> None:
        def later() -> None:
            with transaction(database) as own:
                own.execute(
                    text("UPDATE items SET name = 'task ' || name WHERE name = :name"), {"name": f"{n}"}
                )

        session.execute(INSERT, {"name": f"{n}"})
        tasks.add_task(later)

    @idiom.app.post("/async/{n}", status_code=202)
    async def async_route(
        n: int, session: AsyncSessionDep, database: DatabaseDep, tasks: BackgroundTasks
    ) -> None:
        async def later() -> None:
            async with async_transaction(database) as own:
                await own.execute(
                    text("UPDATE items SET name = 'task ' || name WHERE name = :name"), {"name": f"{n}"}
                )

        await session.execute(INSERT, {"name": f"{n}"})
        tasks.add_task(later)

    assert idiom.statuses(f"/{way}/{{n}}") == {202}
    until(lambda: idiom.names == [f"task {n}" for n in range(8)])


class TestShortRequests:
    """Requests that may take three seconds, and work after them that takes longer."""

    @pytest.fixture
    def variables(self) -> dict[str, object]:
        """A request's time."""
        return {"REQUEST_TIMEOUT_SECONDS": "3"}

    @pytest.mark.parametrize("way", ["sync", "async", "created"])
    def test_work_after_the_answer_has_a_time_of_its_own(self, idiom: Idiom, way: str) -> None:
        """A background task goes on beyond the request's deadline, and so does a task of one's own."""
        if idiom.door == "lambda" and way == "created":
            return
        kept: set[asyncio.Task[None]] = set()

        async def later(database: Any) -> None:
            await asyncio.sleep(3.5)
            async with async_transaction(database) as session:
                await session.execute(INSERT, {"name": "late"})

        def sync_later(database: Any) -> None:
            time.sleep(3.5)
            with transaction(database) as session:
                session.execute(INSERT, {"name": "late"})

        @idiom.app.post("/work", status_code=202)
        async def work(database: DatabaseDep, tasks: BackgroundTasks) -> None:
            if way == "created":
                kept.add(asyncio.create_task(later(database)))
            else:
                tasks.add_task(sync_later if way == "sync" else later, database)

        assert idiom.ask("/work").status == 202
        until(lambda: idiom.names == ["late"])

    @pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
    def test_a_stream_has_the_time_of_a_request_for_each_part(self, idiom: Idiom) -> None:
        """It may last longer than a request, as long as it goes on; and ends if it does not."""

        @idiom.app.post("/goes-on")
        async def goes_on() -> StreamingResponse:
            async def parts() -> AsyncIterator[str]:
                for n in range(5):
                    yield str(n)
                    await asyncio.sleep(0.8)

            return StreamingResponse(parts())

        @idiom.app.post("/stands-still")
        async def stands_still() -> StreamingResponse:
            async def parts() -> AsyncIterator[str]:
                yield "0"
                await anyio.sleep_forever()

            return StreamingResponse(parts())

        assert idiom.ask("/goes-on").body == b"01234"
        still = idiom.ask("/stands-still")
        assert not still.is_whole or still.status == 500

    @pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
    def test_a_client_that_sends_too_slowly_is_told_so(self, idiom: Idiom) -> None:
        """408, not that the database is slow; no connection is held meanwhile."""

        @idiom.app.post("/body")
        def body(values: dict[str, int], session: SessionDep) -> Any:
            return session.scalar(ONE) == len(values)

        url = idiom.client.base_url
        assert url.port is not None
        with socket.create_connection((url.host, url.port), timeout=30) as client:
            client.sendall(
                b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b'Content-Length: 100\r\n\r\n{"a": '
            )
            assert idiom.database.limiter.used == 0
            assert client.recv(1000).split()[1] == b"408"

    def test_a_slow_answer_is_504(self, idiom: Idiom) -> None:
        """Until its answer begins a request has its one deadline."""

        @idiom.app.post("/slow")
        async def slow() -> None:
            assert current_deadline() is not None
            await anyio.sleep_forever()

        assert idiom.ask("/slow").status == 504


@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
def test_what_outlives_a_request_has_no_part_in_it(idiom: Idiom) -> None:
    """Tasks and threads that a request started take places of their own once it is over."""
    kept: list[Any] = []
    go = threading.Event()

    async def late(database: Any, name: str) -> None:
        await anyio.to_thread.run_sync(go.wait)
        async with async_transaction(database) as session:
            await session.execute(INSERT, {"name": f"task {name}"})

    def late_in_thread(database: Any, name: str) -> None:
        go.wait()
        with transaction(database) as session:
            session.execute(INSERT, {"name": f"thread {name}"})

    @idiom.app.post("/start/{n}", status_code=202)
    async def start(n: int, database: DatabaseDep) -> None:
        kept.append(asyncio.create_task(late(database, f"{n}")))
        thread = threading.Thread(target=late_in_thread, args=(database, f"{n}"))
        thread.start()
        kept.append(thread)

    assert idiom.statuses("/start/{n}") == {202}
    go.set()
    until(lambda: len(idiom.names) == 16)


@pytest.mark.parametrize("place", ["lambda-pooled"], indirect=True)
class TestFrozen:
    """A Lambda function, which stands still as soon as its invocation has ended."""

    @pytest.fixture
    def variables(self) -> dict[str, object]:
        """A request's time, which a task that was left has, too."""
        return {"REQUEST_TIMEOUT_SECONDS": "2"}

    @pytest.mark.parametrize("kind", ["task", "thread", "kept"])
    def test_work_that_holds_a_connection_is_finished_before_the_freeze(
        self, idiom: Idiom, kind: str
    ) -> None:
        """A task or thread that nothing awaits commits within the invocation."""

        async def task(database: Database, n: int) -> None:
            async with async_transaction(database) as session:
                await session.execute(INSERT, {"name": f"{n}"})
                await asyncio.sleep(0.1)

        async def kept(database: Database, n: int) -> None:
            async with AsyncSession(database.async_engine) as session:
                await session.execute(INSERT, {"name": f"{n}"})
                await asyncio.sleep(0.1)
                await session.commit()

        def thread(database: Database, n: int) -> None:
            with transaction(database) as session:
                session.execute(INSERT, {"name": f"{n}"})
                time.sleep(0.1)

        started: list[Any] = []

        @idiom.app.post("/start/{n}")
        async def start(n: int, database: DatabaseDep) -> None:
            work = {"task": task, "kept": kept}.get(kind)
            if work:
                started.append(asyncio.create_task(work(database, n)))
            else:
                started.append(threading.Thread(target=thread, args=(database, n)))
                started[-1].start()
            while not database.limiter.used:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        for n in range(3):
            assert idiom.ask(f"/start/{n}").status == 200
            assert idiom.database.limiter.used == 0
            assert len(idiom.names) == n + 1

    def test_work_that_holds_one_for_longer_is_cancelled(
        self, idiom: Idiom, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The request's time is over: its transaction is rolled back, and the log says so."""
        started: list[Any] = []

        async def task(database: Database) -> None:
            async with async_transaction(database) as session:
                await session.execute(INSERT, {"name": "never"})
                await anyio.sleep_forever()

        @idiom.app.post("/start")
        async def start(database: DatabaseDep) -> None:
            started.append(asyncio.create_task(task(database), name="the forgotten one"))
            while not database.limiter.used:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        begin = time.monotonic()
        assert idiom.ask("/start").status == 200
        assert time.monotonic() - begin < 20
        assert (idiom.database.limiter.used, idiom.names) == (0, [])
        assert "a task that held a connection at the end of its invocation was cancelled" in caplog.text

    def test_work_that_holds_none_is_left_alone(self, idiom: Idiom) -> None:
        """A task that only waits is frozen with the function, and goes on in the next invocation."""
        started: list[Any] = []

        @idiom.app.post("/start")
        async def start() -> None:
            started.append(asyncio.create_task(anyio.sleep_forever()))

        begin = time.monotonic()
        assert idiom.ask("/start").status == 200
        assert time.monotonic() - begin < 20
        assert not started[0].done()
