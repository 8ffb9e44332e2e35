"""A 2xx is committed: the answer is made after the COMMIT, and speaks of its failure if it failed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException
from fastapi.testclient import TestClient
from mangum import Mangum
from pydantic import BaseModel
from sqlalchemy import text

from lib.onetrip.fastapi.sessions import AsyncSessionDep, SessionDep
from lib.onetrip.pool.database import Database
from tests.onetrip.application import create_app
from tests.onetrip.events import Context, Request, http_api

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from lib.onetrip.settings.settings import Settings
    from tests.onetrip.counters.conftest import Server

DOORS = ("asgi", "lambda")
# A constraint that is only checked by the COMMIT itself, what breaks it, and the problem that follows.
DEFERRED = {
    "unique": ("UNIQUE (count)", 7, "already-exists"),
    "foreign key": ("FOREIGN KEY (count) REFERENCES counters (id)", 4711, "still-referenced"),
}
INSERT = text("INSERT INTO counters VALUES (:id, :count)")
BACKEND = text("SELECT pg_backend_pid()")


@dataclass
class Script:
    """The rows that routes write, their next step, and their view after the answer."""

    count: int = 0
    then: Callable[[int], None] = lambda _: None
    later: Callable[[], Any] = lambda: None
    seen: list[Any] = field(default_factory=list)


class Stored(BaseModel):
    """The response of the routes."""

    id: int


def routes(script: Script) -> list[APIRouter]:
    """Routes that write a counter, with each kind of session in each kind of function."""
    platform = APIRouter(prefix="/platform")
    plain = APIRouter(prefix="/plain")

    def sync_write(session: Session, number: int) -> Stored:
        backend: int = session.execute(BACKEND).scalar_one()
        session.execute(INSERT, {"id": number, "count": script.count})
        script.then(backend)
        return Stored(id=number)

    async def async_write(session: AsyncSession, number: int) -> Stored:
        backend: int = (await session.execute(BACKEND)).scalar_one()
        await session.execute(INSERT, {"id": number, "count": script.count})
        await anyio.to_thread.run_sync(script.then, backend)
        return Stored(id=number)

    def look_later(tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: script.seen.append(script.later()))

    for router in (platform, plain):

        @router.post("/sync/{number}", status_code=201)
        def sync_route(number: int, session: SessionDep, tasks: BackgroundTasks) -> Stored:
            look_later(tasks)
            return sync_write(session, number)

        @router.post("/mixed/{number}", status_code=201)
        async def mixed_route(number: int, session: SessionDep, tasks: BackgroundTasks) -> Stored:
            look_later(tasks)
            return await anyio.to_thread.run_sync(sync_write, session, number)

        @router.post("/async/{number}", status_code=201)
        async def async_route(number: int, session: AsyncSessionDep, tasks: BackgroundTasks) -> Stored:
            look_later(tasks)
            return await async_write(session, number)

        @router.post("/unfit/{number}", status_code=201, response_model=Stored)
        def unfit_route(number: int, session: SessionDep) -> object:
            sync_write(session, number)
            return {"id": "no number"}

    return [platform, plain]


PATHS = tuple(
    f"/{router}/{route}" for router in ("platform", "plain") for route in ("sync", "mixed", "async")
)


@dataclass(frozen=True)
class Client:
    """A client behind one of the entrypoints."""

    send: Callable[[str], tuple[int, dict[str, Any]]]
    script: Script

    def post(self, path: str, number: int) -> tuple[int, dict[str, Any]]:
        """The status and the JSON of the answer."""
        return self.send(f"{path}/{number}")


@pytest.fixture(params=DOORS)
def client(
    request: pytest.FixtureRequest,
    make_settings: Callable[..., Settings],
    flight: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Client]:
    """A client of the application with these routes, through each entrypoint."""
    if request.param == "lambda":
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    database = Database(make_settings(DATABASE_SINGLE_FLIGHT=flight))
    app = create_app(database)
    script = Script()
    for router in routes(script):
        app.include_router(router)
    through = _through_lambda if request.param == "lambda" else _through_asgi
    yield from through(app, script, database.aclose)


def _through_asgi(app: FastAPI, script: Script, close: Callable[[], Awaitable[None]]) -> Iterator[Client]:
    with TestClient(app, raise_server_exceptions=False) as client:

        def send(path: str) -> tuple[int, dict[str, Any]]:
            answer = client.post(path)
            return answer.status_code, answer.json()

        yield Client(send, script)
        assert client.portal is not None
        client.portal.call(close)


def _through_lambda(app: FastAPI, script: Script, close: Callable[[], Awaitable[None]]) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        handler = Mangum(app, lifespan="off", text_mime_types=["application/"])

        def send(path: str) -> tuple[int, dict[str, Any]]:
            answer = handler(http_api(Request("POST", path)), Context())  # type: ignore[arg-type]  # as the runtime's
            return answer["statusCode"], json.loads(answer["body"])

        yield Client(send, script)
        runner.run(_awaited(close))
    asyncio.set_event_loop(None)


async def _awaited(close: Callable[[], Awaitable[None]]) -> None:
    await close()


@pytest.mark.parametrize("path", PATHS)
def test_a_2xx_is_committed(client: Client, server: Server, path: str) -> None:
    """When the answer says that something was created, others can see it, a background task included."""
    client.script.later = lambda: server.counters
    assert client.post(path, 1) == (201, {"id": 1})
    assert server.counters == {1: 0}
    assert client.script.seen == [{1: 0}]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("deferred", DEFERRED)
def test_a_deferred_constraint_that_fails_at_commit_is_409(
    client: Client, server: Server, path: str, deferred: str
) -> None:
    """The client is told that the COMMIT failed; nothing is stored, and no background task runs."""
    constraint, client.script.count, kind = DEFERRED[deferred]
    server.run("INSERT INTO counters VALUES (7, 7)")
    server.run(f"ALTER TABLE counters ADD {constraint} DEFERRABLE INITIALLY DEFERRED")
    status, problem = client.post(path, 1)
    assert (status, problem["type"]) == (409, f"urn:problem:{kind}")
    assert server.counters == {7: 7}
    assert client.script.seen == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("error", "expected"), [(HTTPException(418), 418), (RuntimeError("a bug"), 500)], ids=["refusal", "bug"]
)
def test_what_a_route_raises_takes_all_back(
    client: Client, server: Server, path: str, error: Exception, expected: int
) -> None:
    """A refusal is a failure too: what was written before it is not stored."""

    def refuse(_: int) -> None:
        raise error

    client.script.then = refuse
    status, problem = client.post(path, 1)
    assert (status, problem["status"]) == (expected, expected)
    assert server.counters == {}


@pytest.mark.parametrize("path", PATHS)
def test_a_connection_lost_before_the_commit_is_5xx(client: Client, server: Server, path: str) -> None:
    """A server process that ends in the middle takes the work with it, and the client is told."""
    client.script.then = lambda backend: server.run("SELECT pg_terminate_backend(%s, 5000)", backend)
    status, problem = client.post(path, 1)
    assert status >= 500
    assert problem["status"] == status
    assert server.counters == {}
    client.script.then = lambda _: None
    assert client.post(path, 2) == (201, {"id": 2})


def test_an_answer_that_cannot_be_made_takes_all_back(client: Client, server: Server) -> None:
    """A 500 for an answer that does not fit its own model stores nothing."""
    status, _ = client.post("/platform/unfit", 1)
    assert status == 500
    assert server.counters == {}
