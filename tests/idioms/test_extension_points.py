"""FastAPI's points of extension with the database: handlers, mounted applications, middleware, WebSockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2 as httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from starlette.types import ASGIApp, Receive, Scope, Send

from lib.onetrip.fastapi.installation import install
from lib.onetrip.fastapi.sessions import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    DatabaseDep,
    ReadSessionDep,
    SessionDep,
    get_session,
)
from lib.onetrip.session.session import async_transaction, transaction
from tests.idioms.conftest import Idiom

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")


@pytest.mark.slow
def test_exception_handlers_are_called(idiom: Idiom) -> None:
    """For Exception, a class of one's own, HTTPException and an invalid request; the work is taken back."""

    class OwnError(Exception):
        pass

    def handled(status: int) -> Any:
        async def handle(_request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"handled": type(error).__name__}, status)

        return handle

    idiom.app.add_exception_handler(Exception, handled(599))
    idiom.app.add_exception_handler(OwnError, handled(418))
    idiom.app.add_exception_handler(HTTPException, handled(419))
    idiom.app.add_exception_handler(RequestValidationError, handled(420))
    errors = {"own": OwnError(), "http": HTTPException(404), "bug": ValueError("a bug")}

    @idiom.app.post("/raise/{kind}")
    def fail(kind: str, session: SessionDep) -> None:
        session.execute(INSERT, {"name": kind})
        raise errors[kind]

    @idiom.app.post("/number/{n}")
    def number(n: int) -> int:
        return n

    for path, expected in {
        "/raise/own": (418, "OwnError"),
        "/raise/http": (419, "HTTPException"),
        "/raise/bug": (599, "ValueError"),
        "/number/x": (420, "RequestValidationError"),
    }.items():
        assert {(r.status, r.json["handled"]) for r in idiom.at_once(path)} == {expected}
    assert idiom.names == []


@pytest.mark.slow
def test_a_handler_of_exception_leaves_the_databases_errors_to_the_problems(idiom: Idiom) -> None:
    """It is asked for what nothing else knows; a duplicate stays 409, unless it has a handler of its own."""

    @idiom.app.exception_handler(Exception)
    def unknown(_request: Request, _error: Exception) -> Response:
        return Response(status_code=599)

    @idiom.app.post("/twice")
    def twice(session: SessionDep) -> None:
        for _ in range(2):
            session.execute(INSERT, {"name": "a"})

    assert idiom.statuses("/twice") == {409}
    assert idiom.names == []


@pytest.mark.slow
def test_a_handler_for_the_databases_errors_takes_them(idiom: Idiom) -> None:
    """A handler for the class answers it; the transaction was rolled back."""

    @idiom.app.exception_handler(IntegrityError)
    async def known(_request: Request, _error: Exception) -> Response:
        return Response(status_code=418)

    @idiom.app.post("/twice")
    async def twice(session: AsyncSessionDep) -> None:
        for _ in range(2):
            await session.execute(INSERT, {"name": "a"})

    assert idiom.statuses("/twice") == {418}
    assert idiom.names == []


@pytest.mark.slow
def test_a_mounted_application_has_sessions_and_problems(idiom: Idiom) -> None:
    """Its routes find the database, commit before the answer, and their database errors are problems."""
    other = FastAPI()

    @other.post("/write/{n}", status_code=201)
    def write(n: int, session: SessionDep) -> None:
        session.execute(INSERT, {"name": f"{n}"})

    @other.post("/twice")
    async def twice(session: AsyncSessionDep) -> None:
        for _ in range(2):
            await session.execute(INSERT, {"name": "twice"})

    @other.post("/bug")
    def bug(session: ReadSessionDep) -> None:
        raise ValueError(session.scalar(ONE))

    idiom.app.mount("/sub", other)
    assert idiom.statuses("/sub/write/{n}") == {201}
    assert {(r.status, r.json["type"]) for r in idiom.at_once("/sub/twice")} == {
        (409, "urn:problem:already-exists")
    }
    assert {(r.status, r.json["status"]) for r in idiom.at_once("/sub/bug")} == {(500, 500)}
    assert len(idiom.names) == 8


def test_a_request_within_a_request_is_a_part_of_it(idiom: Idiom) -> None:
    """A mounted application that was installed too, and a call of the application itself: no second place."""
    other = FastAPI()
    install(other, idiom.database)

    @other.post("/write/{n}")
    def write(n: int, session: SessionDep) -> None:
        session.execute(INSERT, {"name": f"{n}"})

    @idiom.app.post("/itself/{n}")
    async def itself(n: int, session: AsyncSessionDep) -> Any:
        await session.execute(INSERT, {"name": f"held {n}"})
        transport = httpx.ASGITransport(idiom.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://itself") as client:
            return (await client.get("/good/async")).json()["detail"]

    idiom.app.mount("/sub", other)
    assert idiom.statuses("/sub/write/{n}") == {200}
    if idiom.door != "lambda":
        assert all("one connection at a time" in reply.json for reply in idiom.at_once("/itself/{n}"))
    assert len(idiom.names) == (8 if idiom.door == "lambda" else 16)


def test_a_mounted_applications_own_handler_answers(idiom: Idiom) -> None:
    """The answer of its handler of Exception reaches the client."""
    other = FastAPI()

    @other.exception_handler(Exception)
    def handle(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"mine": True}, 500)

    @other.post("/bug")
    def bug() -> None:
        raise ValueError

    idiom.app.mount("/sub", other)
    if idiom.door != "lambda":
        assert idiom.ask("/sub/bug").json == {"mine": True}


@pytest.mark.slow
def test_middleware_asks_the_database(idiom: Idiom) -> None:
    """Added before or after, as a function or as pure ASGI, it shares the request's one connection."""
    database = idiom.database

    class Pure:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                async with async_transaction(database) as session:
                    await session.execute(ONE)
            await self.app(scope, receive, send)

    idiom.app.add_middleware(Pure)

    @idiom.app.middleware("http")
    async def looked_up(request: Request, call_next: Any) -> Any:
        async with async_transaction(database) as session:
            request.state.seen = await session.scalar(ONE)
        response = await call_next(request)
        async with async_transaction(database) as session:
            await session.execute(ONE)
        return response

    @idiom.app.post("/sync/{n}", status_code=201)
    def sync_route(n: int, request: Request, session: SessionDep) -> Any:
        session.execute(INSERT, {"name": f"sync {n}"})
        return request.state.seen

    @idiom.app.post("/async/{n}", status_code=201)
    async def async_route(n: int, request: Request, session: AsyncSessionDep) -> Any:
        await session.execute(INSERT, {"name": f"async {n}"})
        return request.state.seen

    assert idiom.statuses("/sync/{n}") == {201}
    assert idiom.statuses("/async/{n}") == {201}
    assert len(idiom.names) == 16


@pytest.mark.parametrize("number", [1, 8])
def test_middleware_that_holds_a_connection_around_the_route_is_refused(idiom: Idiom, number: int) -> None:
    """The route that needs another one is refused at once, alone as under load, with the remedy."""

    @idiom.app.middleware("http")
    async def holding(request: Request, call_next: Any) -> Any:
        if request.url.path != "/held":
            return await call_next(request)
        async with async_transaction(idiom.database) as session:
            await session.execute(text("SELECT pg_advisory_xact_lock_shared(1)"))
            return await call_next(request)

    @idiom.app.post("/held")
    async def held(session: AsyncSessionDep) -> None:
        await session.execute(ONE)

    replies = idiom.at_once("/held", number=number)
    assert {reply.status for reply in replies} == {500}
    assert all("one connection at a time" in reply.json["detail"] for reply in replies)


def test_middleware_that_fails_at_the_database_is_answered_as_a_route(idiom: Idiom) -> None:
    """A duplicate in middleware is the same 409."""

    @idiom.app.middleware("http")
    async def failing(request: Request, call_next: Any) -> Any:
        if request.url.path == "/any":
            async with async_transaction(idiom.database) as session:
                for _ in range(2):
                    await session.execute(INSERT, {"name": "a"})
        return await call_next(request)

    replies = idiom.at_once("/any")
    assert {(r.status, r.json["type"]) for r in replies} == {(409, "urn:problem:already-exists")}
    assert idiom.names == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
def test_a_lifespan_warms_something(idiom: Idiom) -> None:
    """It runs with sessions of its own, before the first request and after the last."""
    database = idiom.database

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with async_transaction(database) as session:
            await session.execute(INSERT, {"name": "warm"})
        yield
        with transaction(database) as session:
            session.execute(INSERT, {"name": "cold"})

    idiom.app.router.lifespan_context = lifespan
    with TestClient(idiom.app) as client:
        assert idiom.names == ["warm"]
        assert client.get("/good/sync").json() == 1
        assert client.portal is not None
        client.portal.call(database.aclose)
    assert idiom.names == ["cold", "warm"]
    idiom.run("TRUNCATE items CASCADE")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
def test_websockets_have_sessions(idiom: Idiom) -> None:
    """Eight at once read with one that holds nothing, and write in transactions of their own."""

    @idiom.app.websocket("/ws/{n}")
    async def talk(n: int, websocket: WebSocket, session: AsyncReadSessionDep, database: DatabaseDep) -> None:
        await websocket.accept()
        async for message in websocket.iter_text():
            async with async_transaction(database) as own:
                await own.execute(INSERT, {"name": f"{n} {message}"})
            await websocket.send_text(str(await session.scalar(text("SELECT count(*) FROM items"))))

    @idiom.app.websocket("/sync/{n}")
    async def sync_talk(n: int, websocket: WebSocket, session: SessionDep) -> None:
        await websocket.accept()
        session.execute(INSERT, {"name": f"sync {n}"})
        session.commit()
        await websocket.send_text("stored")

    with TestClient(idiom.app) as client:
        for round_number in range(2):
            connects = [client.websocket_connect(f"/ws/{n}") for n in range(8)]
            opened = [connect.__enter__() for connect in connects]
            for socket in opened:
                socket.send_text(f"{round_number}")
            assert all(int(socket.receive_text()) > 0 for socket in opened)
            for connect in connects:
                connect.__exit__(None, None, None)
        with client.websocket_connect("/sync/1") as socket:
            assert socket.receive_text() == "stored"
        assert client.portal is not None
        client.portal.call(idiom.database.aclose)
    assert len(idiom.names) == 17


def test_dependencies_are_overridden(idiom: Idiom) -> None:
    """A session and a user are replaced by FastAPI's own means."""

    def get_user(session: ReadSessionDep) -> str:
        return str(session.scalar(ONE))

    class Fake:
        def execute(self, *_: object) -> str:
            return "fake"

    def fake_session() -> Iterator[Fake]:
        yield Fake()

    @idiom.app.post("/over")
    def over(session: SessionDep, user: Annotated[str, Depends(get_user)]) -> list[str]:
        return [str(session.execute(ONE)), user]

    idiom.app.dependency_overrides = {get_session: fake_session, get_user: lambda: "nobody"}
    assert {reply.body for reply in idiom.at_once("/over")} == {b'["fake","nobody"]'}
    idiom.app.dependency_overrides = {}


def test_dependencies_around_the_session(idiom: Idiom) -> None:
    """One that raises at its end takes the work back; one that swallows the error cannot fake a success."""

    def raising(session: SessionDep) -> Iterator[Any]:
        yield session
        raise HTTPException(418)

    def swallowing(session: SessionDep) -> Iterator[Any]:
        try:
            yield session
        except ValueError:
            return

    @idiom.app.post("/raising")
    def raise_(session: Annotated[Any, Depends(raising, scope="function")]) -> None:
        session.execute(INSERT, {"name": "raised"})

    @idiom.app.post("/swallowing/{n}")
    def swallow(n: int, session: Annotated[Any, Depends(swallowing, scope="function")]) -> None:
        session.execute(INSERT, {"name": f"swallowed {n}"})
        raise ValueError

    assert idiom.statuses("/raising") == {418}
    assert idiom.statuses("/swallowing/{n}") == {500}
    assert "raised" not in idiom.names


def test_cors_headers_are_on_every_answer(idiom: Idiom) -> None:
    """On success, on a database error, on a fault and on the preflight; with compression too."""
    idiom.app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_methods=["*"])
    idiom.app.add_middleware(GZipMiddleware, minimum_size=10)

    @idiom.app.post("/twice")
    def twice(session: SessionDep) -> None:
        for _ in range(2):
            session.execute(INSERT, {"name": "a"})

    @idiom.app.post("/bug")
    def bug() -> None:
        raise ValueError

    @idiom.app.post("/long")
    def long(session: SessionDep) -> Any:
        return "x" * 1000 * session.execute(ONE).scalar_one()

    headers = {"origin": "https://a.example"}
    for path, status in (("/twice", 409), ("/bug", 500), ("/long", 200)):
        reply = idiom.ask(path, headers=headers)
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == "https://a.example", path
    preflight = idiom.ask("/long", "OPTIONS", headers={**headers, "access-control-request-method": "POST"})
    assert preflight.status == 200


def test_the_routes_of_these_tests_answer_json(idiom: Idiom) -> None:
    """A task that a middleware's own task group runs is part of the request as the rest is."""

    @idiom.app.middleware("http")
    async def in_a_group(request: Request, call_next: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(call_next(request))
        return answer.result()

    @idiom.app.post("/two")
    async def two(session: AsyncReadSessionDep) -> Any:
        return [await session.scalar(ONE), await session.scalar(ONE)]

    assert {json.dumps(reply.json) for reply in idiom.at_once("/two")} == {"[1, 1]"}
