"""The application with routes for tests of faults, and concurrent clients for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient
from mangum import Mangum
from sqlalchemy.orm import Session

from lib.onetrip.fastapi.sessions import AsyncReadSessionDep, AsyncSessionDep, ReadSessionDep, SessionDep
from lib.onetrip.pool.database import Database
from tests.onetrip.application import create_app
from tests.onetrip.sync_or_async import WAYS

if TYPE_CHECKING:
    from httpx2 import Response

    from lib.onetrip.settings.settings import Settings

Work = Callable[[Session], object]
# Longer than any deadline here; a thread that sleeps so long holds the end of the tests up.
IDLE_SECONDS = 5
router = APIRouter(prefix="/trial")


@router.post("/sync/transaction")
def sync_transaction(request: Request, session: SessionDep) -> object:
    """The work in a transaction, sync."""
    return _work(request)(session)


@router.post("/async/transaction")
async def async_transaction(request: Request, session: AsyncSessionDep) -> object:
    """The work in a transaction, async."""
    return await session.run_sync(_work(request))


@router.post("/sync/reading")
def sync_reading(request: Request, session: ReadSessionDep) -> object:
    """The work in a reading session, sync."""
    return _work(request)(session)


@router.post("/async/reading")
async def async_reading(request: Request, session: AsyncReadSessionDep) -> object:
    """The work in a reading session, async."""
    return await session.run_sync(_work(request))


@router.post("/sync/idleness")
def sync_idleness() -> None:
    """A wait for something else than the database, sync."""
    time.sleep(IDLE_SECONDS)


@router.post("/async/idleness")
async def async_idleness() -> None:
    """A wait for something else than the database, async."""
    await asyncio.sleep(IDLE_SECONDS)


@router.post("/sync/nothing")
def nothing() -> None:
    """Needs a worker thread and no connection."""


def _work(request: Request) -> Work:
    work: Work = request.app.state.works[request.query_params["work"]]
    return work


def application(database: Database) -> FastAPI:
    """The application with the routes above."""
    app = create_app(database)
    app.state.works = {}
    app.include_router(router)
    return app


async def posted(app: FastAPI, path: str) -> int:
    """The status of one request to the application in this process, which may be cancelled as a task."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"work=it",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return statuses[0]


@dataclass(frozen=True)
class Answer:
    """A client's answer and its seconds."""

    response: Response
    seconds: float

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status_code

    @property
    def kind(self) -> str:
        """The type of the problem."""
        kind: str = self.response.json()["type"]
        return kind.removeprefix("urn:problem:")


@dataclass(frozen=True)
class Trial:
    """One process of the application, and its clients."""

    app: FastAPI
    client: TestClient

    def ask(self, work: Work, way: str, session: str = "transaction") -> Answer:
        """Have `work` done by the route for `way` and `session`."""
        self.app.state.works[str(id(work))] = work
        return self.post(f"/trial/{way}/{session}?work={id(work)}")

    def post(self, path: str) -> Answer:
        """The answer to one request."""
        begin = time.monotonic()
        response = self.client.post(path)
        return Answer(response, time.monotonic() - begin)

    def crowd(self, work: Work, size: int, session: str = "transaction") -> list[Answer]:
        """The answers to `size` requests at once, sync and async in turn."""
        with ThreadPoolExecutor(size) as clients:
            ways = [WAYS[number % len(WAYS)] for number in range(size)]
            return list(clients.map(lambda way: self.ask(work, way, session), ways))


@contextmanager
def trial(settings: Settings) -> Iterator[Trial]:
    """The application under `settings`, for the block."""
    database = Database(settings)
    app = application(database)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Trial(app, client)
        assert client.portal is not None
        client.portal.call(database.aclose)


@dataclass(frozen=True)
class Context:
    """Lambda's context of an invocation."""

    ends_at: float

    def get_remaining_time_in_millis(self) -> int:
        """Until the platform ends the function."""
        return int((self.ends_at - time.monotonic()) * 1000)


@dataclass(frozen=True)
class Invocation:
    """The result of an invocation, and the seconds left before Lambda would have ended it."""

    status: int
    body: Any
    milliseconds_left: int

    @property
    def kind(self) -> str:
        """The type of the problem."""
        kind: str = self.body["type"]
        return kind.removeprefix("urn:problem:")


class Function:
    """An instance of the function on Lambda: a loop of its own, and one request at a time."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings)
        self._app = application(self._database)
        self._loop = asyncio.new_event_loop()

    def invoke(self, path: str, work: Work, seconds: float = 2.0) -> Invocation:
        """Have `work` done by the route at `path`, with `seconds` left."""
        self._app.state.works["it"] = work
        request = {"method": "POST", "path": f"/trial{path}", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
        event = {
            "version": "2.0",
            "rawPath": request["path"],
            "rawQueryString": "work=it",
            "headers": {},
            "requestContext": {"http": request},
            "isBase64Encoded": False,
        }
        context = Context(time.monotonic() + seconds)
        # Mangum takes the thread's current loop.
        asyncio.set_event_loop(self._loop)
        handler = Mangum(self._app, lifespan="off", text_mime_types=["application/"])
        answer = handler(event, context)  # type: ignore[arg-type]  # all of the context that is used
        return Invocation(
            answer["statusCode"], json.loads(answer["body"]), context.get_remaining_time_in_millis()
        )

    def close(self) -> None:
        """Close its connections and its loop."""
        self._loop.run_until_complete(self._database.aclose())
        self._loop.close()
