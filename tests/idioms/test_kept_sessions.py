"""Sessions that an application keeps as they were, on the package's engine; and any event loop and thread."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx2 as httpx
import pytest
from fastapi import BackgroundTasks, Depends
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from lib.onetrip.fastapi.sessions import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    ReadSessionDep,
    SessionDep,
    get_session,
    session_dependency,
)
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_transaction, transaction
from tests.idioms.conftest import Idiom, Item, until

pytestmark = pytest.mark.slow

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")
SERVERS = pytest.mark.parametrize("place", ["server-direct", "server-pooled"])


@SERVERS
@pytest.mark.parametrize("number", [48, 128])
def test_sync_requests_at_once_do_not_starve(idiom: Idiom, number: int) -> None:
    """A dependency and a route each on a worker thread, with a kept `SessionLocal`: all are served."""
    session_local = sessionmaker(idiom.database.engine)

    def get_db() -> Iterator[Session]:
        with session_local() as db:
            yield db

    def get_user(db: Annotated[Session, Depends(get_db)]) -> Any:
        return db.scalar(ONE)

    @idiom.app.post("/kept/{n}")
    def kept(n: int, db: Annotated[Session, Depends(get_db)], user: Annotated[int, Depends(get_user)]) -> str:
        item = Item(name=f"{n}")
        db.add(item)
        db.commit()
        db.refresh(item)
        return item.name * user

    begin = time.monotonic()
    replies = idiom.at_once("/kept/{n}", number=number)
    assert {reply.status for reply in replies} == {200}
    assert len(idiom.names) == number
    # The pool's time for waiting is five seconds: no request waited in vain.
    assert time.monotonic() - begin < 60


@SERVERS
def test_async_requests_at_once_with_a_kept_sessionmaker(idiom: Idiom) -> None:
    """The same with `async_sessionmaker`."""
    make = async_sessionmaker(idiom.database.async_engine, expire_on_commit=False)

    async def get_db() -> AsyncIterator[AsyncSession]:
        async with make() as db:
            yield db

    @idiom.app.post("/kept/{n}")
    async def kept(n: int, db: Annotated[AsyncSession, Depends(get_db)]) -> str:
        item = Item(name=f"{n}")
        db.add(item)
        await db.commit()
        await db.refresh(item)
        return item.name

    assert {reply.status for reply in idiom.at_once("/kept/{n}", number=48)} == {200}
    assert len(idiom.names) == 48


def test_two_kept_sessions_of_one_request(idiom: Idiom) -> None:
    """The first makes way if it only read; if it did more, the second is refused, alone as under load."""
    session_local = sessionmaker(idiom.database.engine)

    @idiom.app.post("/two/{n}")
    def two(n: int) -> None:
        with session_local() as a, session_local() as b:
            a.execute(ONE)
            b.execute(INSERT, {"name": f"two {n}"})
            b.commit()
            a.execute(ONE)

    @idiom.app.post("/refused")
    def refused() -> None:
        with session_local() as a, session_local() as b:
            a.execute(INSERT, {"name": "never"})
            b.execute(ONE)

    for number in (1, 8):
        replies = idiom.at_once("/refused", number=number)
        assert {reply.status for reply in replies} == {500}
        assert all("one connection at a time" in reply.json["detail"] for reply in replies)
    assert idiom.statuses("/two/{n}") == {200}
    assert idiom.names == [f"two {n}" for n in range(8)]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_background_task_beside_a_kept_session(idiom: Idiom, way: str) -> None:
    """FastAPI keeps the session of `get_db` open until the task, which has one of its own, is done."""
    session_local = sessionmaker(idiom.database.engine)
    async_session_local = async_sessionmaker(idiom.database.async_engine, expire_on_commit=False)

    def get_db() -> Iterator[Session]:
        with session_local() as db:
            yield db

    async def get_async_db() -> AsyncIterator[AsyncSession]:
        async with async_session_local() as db:
            yield db

    def later(name: str) -> None:
        with session_local() as own:
            own.add(Item(name=f"later {name}"))
            own.commit()

    @idiom.app.post("/sync/{n}")
    def sync_route(n: int, db: Annotated[Session, Depends(get_db)], tasks: BackgroundTasks) -> int:
        item = Item(name=f"{n}")
        db.add(item)
        db.commit()
        db.refresh(item)
        tasks.add_task(later, item.name)
        return item.id

    @idiom.app.post("/async/{n}")
    async def async_route(
        n: int, db: Annotated[AsyncSession, Depends(get_async_db)], tasks: BackgroundTasks
    ) -> int:
        item = Item(name=f"{n}")
        db.add(item)
        await db.commit()
        await db.refresh(item)

        async def async_later() -> None:
            async with async_session_local() as own:
                own.add(Item(name=f"later {n}"))
                await own.commit()

        tasks.add_task(async_later)
        return item.id

    assert idiom.statuses(f"/{way}/{{n}}") == {200}
    until(lambda: len(idiom.names) == 16)


@SERVERS
def test_what_is_stored_at_the_end_does_not_stop_the_loop(idiom: Idiom) -> None:
    """A row that the route only added waits in a worker thread for its place, however many ask at once."""
    session_local = sessionmaker(idiom.database.engine)

    @idiom.app.post("/add/{n}")
    def add(n: int, session: SessionDep) -> None:
        with session_local() as kept:
            kept.scalars(select(Item)).all()
        session.add(Item(name=f"{n}"))

    assert {reply.status for reply in idiom.at_once("/add/{n}", number=32)} == {200}
    assert len(idiom.names) == 32


def _sync_open(database: Database, kept: list[Any]) -> Any:
    def get_db() -> Session:
        kept.append(Session(database.engine))
        return kept[-1]  # type: ignore[no-any-return]

    return get_db


def _async_open(database: Database, kept: list[Any]) -> Any:
    async def get_db() -> AsyncSession:
        kept.append(AsyncSession(database.async_engine))
        return kept[-1]  # type: ignore[no-any-return]

    return get_db


@pytest.mark.parametrize("keeps", [False, True], ids=["lost", "kept"])
@pytest.mark.parametrize("opened", [_sync_open, _async_open])
@pytest.mark.parametrize("statement", ["SELECT 1", "INSERT INTO items (name) VALUES ('never')"])
def test_a_session_that_is_never_closed(
    idiom: Idiom, caplog: pytest.LogCaptureFixture, opened: Any, statement: str, *, keeps: bool
) -> None:
    """Its connection is given back when the request ends, lost or kept elsewhere; the log names it."""
    kept: list[Any] = []
    get_db = opened(idiom.database, kept)

    def left_open(db: Annotated[Session, Depends(get_db)]) -> None:
        if not keeps:
            kept.clear()
        db.execute(text(statement))

    async def left_open_async(db: Annotated[AsyncSession, Depends(get_db)]) -> None:
        if not keeps:
            kept.clear()
        await db.execute(text(statement))

    idiom.app.post("/open")(left_open if opened is _sync_open else left_open_async)
    assert idiom.statuses("/open") == {200}
    until(lambda: idiom.database.limiter.used == 0)
    assert "left a session or connection open: its Session was rolled back" in caplog.text
    assert idiom.names == []


def test_a_session_in_a_global_that_is_never_closed(idiom: Idiom) -> None:
    """It begins anew in each request, and stores what it commits."""
    made = async_sessionmaker(idiom.database.async_engine, expire_on_commit=False)
    kept: dict[int, AsyncSession] = {}

    @idiom.app.post("/global/{n}")
    async def route(n: int) -> Any:
        db = kept.setdefault(n, made())
        if await db.scalar(select(Item.name).where(Item.name == f"{n}")) is None:
            db.add(Item(name=f"{n}"))
            await db.commit()
        return await db.scalar(select(Item.name).where(Item.name == f"{n}"))

    for _ in range(2):
        assert sorted(reply.json for reply in idiom.at_once("/global/{n}")) == idiom.names
    assert len(idiom.names) == 8


# SQLAlchemy warns of an async one.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_connection_of_the_engine_that_is_never_closed(idiom: Idiom, way: str) -> None:
    """The same without a session: it is given back once it is lost."""

    @idiom.app.post("/sync")
    def sync_route() -> Any:
        return idiom.database.engine.connect().scalar(ONE)

    @idiom.app.post("/async")
    async def async_route() -> Any:
        return await (await idiom.database.async_engine.connect()).scalar(ONE)

    # Each waits for a collection of all garbage, which takes long in a process of many tests.
    assert {reply.status for reply in idiom.at_once(f"/{way}", number=4)} == {200}
    until(lambda: idiom.database.limiter.used == 0)


class Own(Session):
    """A class of the application's, as SQLModel's is."""

    def exec(self, statement: Any) -> Any:
        """Like SQLModel's: scalars of a statement."""
        return self.scalars(statement)


class OwnAsync(AsyncSession):
    """An async one over it."""

    sync_session_class = Own


@pytest.mark.parametrize(
    "factory", [Own, sessionmaker(class_=Own, expire_on_commit=False)], ids=["class", "maker"]
)
def test_the_applications_own_class_and_commits(idiom: Idiom, factory: Any) -> None:
    """`session_dependency` takes the class or the sessionmaker; routes commit as they ever did."""
    own = session_dependency(factory)

    @idiom.app.post("/own/{n}")
    def route(n: int, session: Annotated[Own, own]) -> Any:
        session.add(Item(name=f"{n}"))
        session.commit()
        session.add(Item(name=f"left {n}"))
        session.flush()
        return session.exec(select(Item.name).where(Item.name == f"{n}")).one()

    assert sorted(reply.json for reply in idiom.at_once("/own/{n}")) == idiom.names
    assert len(idiom.names) == 8


@pytest.mark.parametrize("factory", [OwnAsync, async_sessionmaker(class_=OwnAsync)], ids=["class", "maker"])
def test_the_applications_own_async_class_and_commits(idiom: Idiom, factory: Any) -> None:
    """The same for async sessions, the class of the sync one beneath included."""
    own = session_dependency(factory, commit=True)

    @idiom.app.post("/own/{n}")
    async def route(n: int, session: Annotated[OwnAsync, own]) -> Any:
        session.add(Item(name=f"{n}"))
        return (await session.run_sync(lambda sync: sync.exec(select(Item.name)).all()))[0] is not None  # type: ignore[attr-defined]

    assert {reply.body for reply in idiom.at_once("/own/{n}")} == {b"true"}
    assert len(idiom.names) == 8


def test_sync_and_async_together_have_one_pools_worth_of_connections(idiom: Idiom) -> None:
    """A process whose routes are partly sync and partly async opens two connections, not four."""

    @idiom.app.post("/sync")
    def sync_route(session: SessionDep) -> Any:
        return session.scalar(text("SELECT pg_sleep(0.01)"))

    @idiom.app.post("/async")
    async def async_route(session: AsyncSessionDep) -> Any:
        return await session.scalar(text("SELECT pg_sleep(0.01)"))

    for path in ("/sync", "/async", "/sync", "/async"):
        assert idiom.statuses(path) == {200}
        state = idiom.database.pool_state
        assert state.total <= 2, path


@SERVERS
def test_event_loops_after_each_other(idiom: Idiom) -> None:
    """A loop for each test, `asyncio.run` twice, eight requests at once in each: all are served."""

    @idiom.app.post("/async/{n}", status_code=201)
    async def async_route(n: int, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": f"async {n}"})

    @idiom.app.post("/sync/{n}", status_code=201)
    def sync_route(n: int, session: SessionDep) -> None:
        session.execute(INSERT, {"name": f"sync {n}"})

    async def burst() -> set[int]:
        transport = httpx.ASGITransport(idiom.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            asked = [client.post(f"/{way}/{n}") for n in range(8) for way in ("sync", "async")]
            return {answer.status_code for answer in await asyncio.gather(*asked)}

    for _ in range(3):
        idiom.run("TRUNCATE items CASCADE")
        assert asyncio.run(burst()) == {201}
        assert len(idiom.names) == 16


@SERVERS
@pytest.mark.parametrize("path", ["/good/sync", "/good/async"])
def test_clients_without_with_in_threads(idiom: Idiom, path: str) -> None:
    """A loop for each request, eight at once."""
    statuses: list[int] = []

    def ask() -> None:
        client = TestClient(idiom.app)
        statuses.extend(client.get(path).status_code for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40


@SERVERS
def test_scripts_threads_and_loops_take_places_of_their_own(idiom: Idiom) -> None:
    """Outside of requests each unit waits for its turn: in threads, in a loop in each, eight at once."""

    def work(database: Database, n: int) -> None:
        with transaction(database) as session:
            session.execute(INSERT, {"name": f"sync {n}"})

        async def async_work() -> None:
            async with async_transaction(database) as own:
                await own.execute(INSERT, {"name": f"async {n}"})

        asyncio.run(async_work())

    threads = [threading.Thread(target=work, args=(idiom.database, n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(idiom.names) == 16


@SERVERS
def test_a_test_suite_that_rolls_back(idiom: Idiom) -> None:
    """SQLAlchemy's recipe: one outer transaction for a test, savepoints for the application's commits."""

    @idiom.app.post("/add/{n}", status_code=201)
    def add(n: int, session: SessionDep) -> int:
        session.add(Item(name=f"{n}"))
        session.commit()
        return len(session.scalars(select(Item)).all())

    with idiom.database.engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            idiom.app.dependency_overrides[get_session] = lambda: session
            client = TestClient(idiom.app)
            assert [client.post(f"/add/{n}").json() for n in range(3)] == [1, 2, 3]
        outer.rollback()
    idiom.app.dependency_overrides.clear()
    assert idiom.names == []


@SERVERS
def test_reads_and_writes_of_both_kinds_mixed(idiom: Idiom) -> None:
    """Sync and async routes share two connections under forty-eight requests at once."""

    @idiom.app.post("/read/{n}")
    async def read(n: int, session: AsyncReadSessionDep) -> Any:
        return await session.scalar(text("SELECT cast(:n AS int)"), {"n": n})

    @idiom.app.post("/write/{n}")
    def write(n: int, session: SessionDep, reading: ReadSessionDep) -> int:
        seen = reading.scalar(ONE) or 0
        session.execute(INSERT, {"name": f"{n}"})
        return n * seen

    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda path=path: results.extend(idiom.at_once(path, number=24)))
        for path in ("/read/{n}", "/write/{n}")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reply.json for reply in results) == sorted([*range(24), *range(24)])
