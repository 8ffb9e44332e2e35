"""A 2xx is committed, and nothing else is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException
from fastapi.testclient import TestClient
from mangum import Mangum
from sqlalchemy import text

from api.dependencies import AsyncSessionDep, SessionDep
from api.platform_route import PlatformRoute
from lib.engine import Database
from tests.conftest import Servers
from tests.platforms.events import Request, http_api

# The constraint is checked at COMMIT, so every statement succeeds and the COMMIT itself fails.
TABLE = "CREATE TABLE slots (slot int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
INSERT = text("INSERT INTO slots VALUES (:slot)")
KILL = text("SELECT pg_terminate_backend(pg_backend_pid())")

router = APIRouter(route_class=PlatformRoute)


@router.post("/sync/{slot}", status_code=201)
def in_a_sync_route(slot: int, session: SessionDep) -> dict[str, bool]:
    session.execute(INSERT, {"slot": slot})
    return {"saved": True}


@router.post("/sync-in-async/{slot}", status_code=201)
async def with_a_sync_session_in_an_async_route(slot: int, session: SessionDep) -> dict[str, bool]:
    session.execute(INSERT, {"slot": slot})
    return {"saved": True}


@router.post("/async/{slot}", status_code=201)
async def in_an_async_route(slot: int, session: AsyncSessionDep) -> dict[str, bool]:
    await session.execute(INSERT, {"slot": slot})
    return {"saved": True}


@router.post("/refused/{slot}")
def refused_after_writing(slot: int, session: SessionDep) -> None:
    session.execute(INSERT, {"slot": slot})
    raise HTTPException(418)


@router.post("/broken/{slot}")
async def broken_after_writing(slot: int, session: AsyncSessionDep) -> None:
    await session.execute(INSERT, {"slot": slot})
    raise ZeroDivisionError


@router.post("/killed/{slot}", status_code=201)
def killed_after_writing(slot: int, session: SessionDep) -> dict[str, bool]:
    session.execute(INSERT, {"slot": slot})
    session.execute(KILL)
    return {"saved": True}


@router.post("/background/{slot}", status_code=201)
def with_a_background_task(slot: int, session: SessionDep, tasks: BackgroundTasks) -> dict[str, bool]:
    session.execute(INSERT, {"slot": slot})
    # Found when it is added: a test puts its own there.
    tasks.add_task(look)
    return {"saved": True}


def look() -> None:
    """Replaced by the test that needs it."""


class Context:
    """What the application asks of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        return 29_000


class Answer(NamedTuple):
    """What a door answered."""

    status: int
    body: dict[str, Any]


Door = Callable[[str], Answer]
Stored = Callable[[], list[int]]


@pytest.fixture
def slots(servers: Servers, database_name: str) -> Stored:
    """What is stored, seen by someone else."""
    servers.administer(TABLE, database_name)
    return lambda: [row[0] for row in servers.administer("SELECT slot FROM slots ORDER BY 1", database_name)]


@pytest.fixture(params=["asgi", "lambda"])
def post(request: pytest.FixtureRequest, app: FastAPI) -> Iterator[Door]:
    """POST to a path through one of the two doors."""
    app.include_router(router)
    if request.param == "asgi":
        with TestClient(app, raise_server_exceptions=False) as client:
            yield lambda path: _read(client.post(path))
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    handler = Mangum(app, lifespan="off", text_mime_types=["application/json", "application/problem+json"])
    yield lambda path: _invoke(handler, path)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    asyncio.set_event_loop(None)


WAYS = ("sync", "sync-in-async", "async")


@pytest.mark.parametrize("way", WAYS)
def test_a_commit_that_fails_is_409_and_stores_nothing(post: Door, slots: Stored, way: str) -> None:
    """The deferred constraint fails at COMMIT, after the route has returned its 201: the client gets 409."""
    assert post(f"/{way}/1").status == 201
    failed = post(f"/{way}/1")
    assert (failed.status, failed.body["type"]) == (409, "urn:problem:already-exists")
    assert slots() == [1]


@pytest.mark.parametrize("way", WAYS)
def test_a_2xx_is_stored_when_it_arrives(post: Door, slots: Stored, way: str) -> None:
    """Another session sees the row at once."""
    assert post(f"/{way}/2").status == 201
    assert slots() == [2]


@pytest.mark.parametrize(("path", "status"), [("/refused/3", 418), ("/broken/3", 500)])
def test_an_exception_rolls_back(post: Door, slots: Stored, path: str, status: int) -> None:
    """Whatever the route raises after writing, refusal or mistake, nothing is stored."""
    assert post(path).status == status
    assert slots() == []


def test_a_backend_killed_before_the_commit_is_5xx_and_stores_nothing(post: Door, slots: Stored) -> None:
    """The unit of work is tried again and fails again; no try leaves anything behind."""
    answer = post("/killed/4")
    assert answer.status == 503
    assert slots() == []


def test_a_background_task_finds_the_commit_done(
    post: Door, slots: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Background tasks run after the transaction, so what they look for is there."""
    seen: list[list[int]] = []
    monkeypatch.setitem(globals(), "look", lambda: seen.append(slots()))
    assert post("/background/5").status == 201
    assert seen == [[5]]


def test_the_next_request_is_served_after_a_failed_commit(
    post: Door, slots: Stored, database: Database
) -> None:
    """A failed COMMIT costs neither the connection nor the next request."""
    post("/sync/6")
    assert [post("/sync/6").status, post("/sync/7").status] == [409, 201]
    assert slots() == [6, 7]
    assert database.engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # a QueuePool


def _read(response: Any) -> Answer:
    return Answer(response.status_code, response.json())


def _invoke(handler: Mangum, path: str) -> Answer:
    event: Any = http_api(Request("POST", path))
    context: Any = Context()
    response = handler(event, context)
    return Answer(response["statusCode"], json.loads(response["body"]))
