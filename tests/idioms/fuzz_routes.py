"""Routes of the fuzz test, one for each idiom: which rows each may leave, and which it must."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from lib.onetrip.fastapi.sessions import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    ReadSessionDep,
    SessionDep,
)
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import LAST, async_reading, async_transaction, transaction

INSERT = text("INSERT INTO parts (name) VALUES (:name)")
COUNT = text("SELECT count(*) FROM parts WHERE name = :name")
ONE = text("SELECT 1")


@dataclass(frozen=True)
class Idiom:
    """A route: the rows it may leave, those that stay after a failure, and whether it can succeed.

    A success leaves all of its rows, but for what `later` says is done after the answer.
    """

    path: str
    rows: Callable[[str], list[str]] = lambda name: [name]
    kept: Callable[[str], list[str]] = lambda _name: []
    succeeds: bool = True
    later: Callable[[str], list[str]] = lambda _name: []


def _none(_name: str) -> list[str]:
    return []


def _two(name: str) -> list[str]:
    return [f"{name} 0", f"{name} 1"]


def _first(name: str) -> list[str]:
    return [f"{name} 0"]


def _second(name: str) -> list[str]:
    return [f"{name} 1"]


IDIOMS = [
    Idiom("/sync/write"),
    Idiom("/sync/last"),
    Idiom("/sync/commit", _two, _two),
    Idiom("/sync/nested", _two, _first),
    Idiom("/sync/savepoint"),
    Idiom("/sync/caught", succeeds=False),
    Idiom("/sync/refused", succeeds=False),
    Idiom("/sync/kept-session"),
    Idiom("/sync/read", _none),
    Idiom("/sync/background", _two, _two, later=_second),
    Idiom("/async/write"),
    Idiom("/async/last"),
    Idiom("/async/commit", _two, _two),
    Idiom("/async/nested", _two, _first),
    Idiom("/async/gather", _two, _two),
    Idiom("/async/threads", _two, _two),
    Idiom("/async/refused", succeeds=False),
    Idiom("/async/stream", _two, _two),
    Idiom("/async/read", _none),
    Idiom("/async/two-kinds"),
    Idiom("/sync/caller"),
    Idiom("/sync/begun", _two, _first),
    Idiom("/sync/executor"),
    Idiom("/sync/kept-background", _two, _two, later=_second),
    Idiom("/async/caller"),
    Idiom("/async/caller-own", _two, _first),
]


def add_routes(app: FastAPI, database: Database) -> None:
    """Add a route for each idiom; all take a name."""
    _add_sync(app, database)
    _add_sync_others(app, database)
    _add_async(app, database)
    _add_async_others(app, database)
    _add_callers(app, database)
    _add_kept(app, database)


def _own(database: Database, name: str) -> None:
    with transaction(database) as session:
        session.execute(INSERT, {"name": name})


async def _async_own(database: Database, name: str) -> None:
    async with async_transaction(database) as session:
        await session.execute(INSERT, {"name": name})


def _add_sync(app: FastAPI, database: Database) -> None:
    @app.post("/sync/write")
    def write(name: str, session: SessionDep) -> None:
        session.execute(INSERT, {"name": name})
        session.execute(ONE)

    @app.post("/sync/last")
    def last(name: str, session: SessionDep) -> None:
        session.execute(INSERT, {"name": name}, execution_options=LAST)

    @app.post("/sync/commit")
    def commit(name: str, session: SessionDep) -> None:
        for row in _two(name):
            session.execute(INSERT, {"name": row})
            session.commit()

    @app.post("/sync/nested")
    def nested(name: str, session: SessionDep) -> None:
        first, second = _two(name)
        _own(database, first)
        session.execute(INSERT, {"name": second})

    @app.post("/sync/savepoint")
    def savepoint(name: str, session: SessionDep) -> None:
        session.execute(INSERT, {"name": name})
        try:
            with session.begin_nested():
                session.execute(text("SELECT 1 / 0"))
        except DBAPIError as error:
            if error.connection_invalidated:
                raise


def _add_sync_others(app: FastAPI, database: Database) -> None:
    session_local = sessionmaker(database.engine)

    def get_db() -> Iterator[Session]:
        with session_local() as db:
            yield db

    @app.post("/sync/caught")
    def caught(name: str, session: SessionDep) -> None:
        session.execute(INSERT, {"name": name})
        with suppress(DBAPIError):
            session.execute(text("SELECT 1 / 0"))

    @app.post("/sync/refused")
    def refused(name: str, session: SessionDep) -> None:
        session.execute(INSERT, {"name": name})
        _own(database, f"{name} never")

    @app.post("/sync/kept-session")
    def kept(name: str, db: Annotated[Session, Depends(get_db)]) -> None:
        db.execute(INSERT, {"name": name})
        db.commit()

    @app.post("/sync/read")
    def read(name: str, session: ReadSessionDep) -> Any:
        return session.scalar(COUNT, {"name": name})

    @app.post("/sync/background")
    def background(name: str, session: SessionDep, tasks: BackgroundTasks) -> None:
        first, second = _two(name)
        session.execute(INSERT, {"name": first})
        tasks.add_task(_own, database, second)


def _add_async(app: FastAPI, database: Database) -> None:
    @app.post("/async/write")
    async def write(name: str, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": name})
        await session.execute(ONE)

    @app.post("/async/last")
    async def last(name: str, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": name}, execution_options=LAST)

    @app.post("/async/commit")
    async def commit(name: str, session: AsyncSessionDep) -> None:
        for row in _two(name):
            await session.execute(INSERT, {"name": row})
            await session.commit()

    @app.post("/async/nested")
    async def nested(name: str, session: AsyncSessionDep) -> None:
        first, second = _two(name)
        await _async_own(database, first)
        await session.execute(INSERT, {"name": second})

    @app.post("/async/refused")
    async def refused(name: str, session: AsyncSessionDep) -> None:
        await session.execute(INSERT, {"name": name})
        await _async_own(database, f"{name} never")


def _add_async_others(app: FastAPI, database: Database) -> None:
    @app.post("/async/gather")
    async def gather(name: str) -> None:
        await asyncio.gather(*(_async_own(database, row) for row in _two(name)))

    @app.post("/async/threads")
    async def threads(name: str) -> None:
        async with anyio.create_task_group() as group:
            for row in _two(name):
                group.start_soon(anyio.to_thread.run_sync, _own, database, row)

    @app.post("/async/stream")
    async def stream(name: str) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            async with async_reading(database) as session:
                for row in _two(name):
                    await _async_own(database, row)
                    yield str(await session.scalar(COUNT, {"name": row}))

        return StreamingResponse(parts())

    @app.post("/async/read")
    async def read(name: str, session: AsyncReadSessionDep) -> Any:
        return [await session.scalar(COUNT, {"name": name}) for _ in range(2)]

    @app.post("/async/two-kinds")
    async def two_kinds(name: str, read: ReadSessionDep, session: AsyncSessionDep) -> Any:
        seen = await anyio.to_thread.run_sync(read.scalar, ONE)
        await session.execute(INSERT, {"name": name})
        return seen


def _add_callers(app: FastAPI, database: Database) -> None:
    def caller(session: SessionDep) -> Any:
        return session.scalar(ONE)

    async def async_caller(session: AsyncSessionDep) -> Any:
        return await session.scalar(ONE)

    @app.post("/sync/caller")
    def sync_caller(name: str, who: Annotated[int, Depends(async_caller)], session: SessionDep) -> int:
        session.execute(INSERT, {"name": name})
        return who

    @app.post("/async/caller")
    async def by_caller(name: str, who: Annotated[int, Depends(caller)], session: AsyncSessionDep) -> int:
        await session.execute(INSERT, {"name": name})
        return who

    @app.post("/async/caller-own")
    async def own(name: str, session: AsyncSessionDep, who: Annotated[int, Depends(async_caller)]) -> int:
        first, second = _two(name)
        await _async_own(database, first)
        await session.execute(INSERT, {"name": second})
        return who

    @app.post("/sync/begun")
    def begun(name: str, session: SessionDep, _who: Annotated[int, Depends(caller)]) -> None:
        for row in _two(name):
            with session.begin():
                session.execute(INSERT, {"name": row})


def _add_kept(app: FastAPI, database: Database) -> None:
    session_local = sessionmaker(database.engine)

    def get_db() -> Iterator[Session]:
        with session_local() as db:
            yield db

    @app.post("/sync/kept-background")
    def kept_background(name: str, db: Annotated[Session, Depends(get_db)], tasks: BackgroundTasks) -> Any:
        first, second = _two(name)
        db.execute(INSERT, {"name": first})
        db.commit()
        tasks.add_task(_own, database, second)
        return db.scalar(COUNT, {"name": first})

    @app.post("/sync/executor")
    def executor(name: str, session: SessionDep) -> None:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(session.execute, INSERT, {"name": name}).result()
