"""An application of its own for each test, on a pool of two, served by uvicorn or as a Lambda function."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.schema import ForeignKey

from lib.onetrip.aws.adapter import adapted
from lib.onetrip.fastapi.installation import install
from lib.onetrip.fastapi.sessions import AsyncReadSessionDep, ReadSessionDep
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip.events import Context, Request, http_api

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

AT_ONCE = 8
# Of these the quick tests ask a tenth.
GOOD_REQUESTS = 100
# Nothing here may take as long as a wait for a connection that does not come.
PATIENCE_SECONDS = 60.0
TABLES = """
    CREATE TABLE items (id serial PRIMARY KEY, name text UNIQUE, version int NOT NULL DEFAULT 1);
    CREATE TABLE parts (id serial PRIMARY KEY, item_id int REFERENCES items, name text);
"""


class Base(DeclarativeBase):
    """The tables of these tests."""


class Item(Base):
    """A row that routes store."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    version: Mapped[int] = mapped_column(default=1)
    parts: Mapped[list[Part]] = relationship(order_by="Part.id")


class Part(Base):
    """A row that belongs to an item."""

    __tablename__ = "parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))
    name: Mapped[str]


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its body, and whether all of it came."""

    status: int
    body: bytes
    is_whole: bool = True
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Idiom:
    """The application under test, and its clients."""

    app: FastAPI
    database: Database
    door: str
    run: Callable[[str], list[tuple[Any, ...]]]
    good_requests: int = GOOD_REQUESTS
    serving: ExitStack = field(default_factory=ExitStack)
    _client: httpx.Client | None = None
    handler: Any = None

    @property
    def client(self) -> httpx.Client:
        """A client of the server, which starts with the first request: until then routes can be added."""
        if self._client is None:
            self._client = self.serving.enter_context(served_by_uvicorn(self.app))
        return self._client

    def ask(self, path: str, method: str = "POST", **options: Any) -> Reply:
        """One request."""
        if self.door == "lambda":
            return self._invoke(method, path, **options)
        body, whole = b"", True
        with self.client.stream(method, path, **options) as answer:
            try:
                for part in answer.iter_bytes():
                    body += part
            except httpx.RemoteProtocolError:
                whole = False
        return Reply(answer.status_code, body, whole, dict(answer.headers))

    def at_once(
        self, path: str, method: str = "POST", number: int = AT_ONCE, workers: int = 128
    ) -> list[Reply]:
        """As many requests at once; on Lambda, which serves one at a time, one after another."""
        if self.door == "lambda":
            return [self.ask(path.format(n=n), method) for n in range(number)]
        assert self.client
        with ThreadPoolExecutor(min(number, workers)) as clients:
            return list(clients.map(lambda n: self.ask(path.format(n=n), method), range(number)))

    def statuses(self, path: str, method: str = "POST") -> set[int]:
        """The statuses of eight requests at once."""
        return {reply.status for reply in self.at_once(path, method)}

    @property
    def names(self) -> list[str]:
        """The names that are stored, sorted."""
        return [name for (name,) in self.run("SELECT name FROM items ORDER BY name")]

    def is_whole(self) -> None:
        """Assert that nothing is held, nothing is open on the server, and a hundred requests are served."""
        until(self._gave_everything_back)
        until(lambda: self.run(_IN_TRANSACTION) == [(0,)])
        served = [reply.status for path in ("/good/sync", "/good/async") for reply in self._served(path)]
        assert served == [200] * self.good_requests
        assert self.database.limiter.waiting == 0

    def _gave_everything_back(self) -> bool:
        return self.database.limiter.used == 0 and self.database.pool_watch.checked_out == 0

    def _served(self, path: str) -> list[Reply]:
        return self.at_once(path, "GET", self.good_requests // 2, workers=AT_ONCE)

    def _invoke(self, method: str, path: str, **options: Any) -> Reply:
        body = json.dumps(options["json"]).encode() if "json" in options else b""
        headers = {"content-type": "application/json"} if body else {}
        event = http_api(Request(method, path, body=body, headers=headers | options.get("headers", {})))
        answer = self.handler(event, Context())
        return Reply(answer["statusCode"], answer["body"].encode(), headers=answer["headers"])


_IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'
"""


@pytest.fixture
def database_name(servers: Servers) -> Iterator[str]:
    """A database with the tables of these tests."""
    with servers.copy() as name:
        servers.administer(TABLES, name)
        yield name


@pytest.fixture(
    params=[pytest.param("server-direct", marks=pytest.mark.slow), "server-pooled", "lambda-pooled"]
)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server that runs the application, and its way to the database."""
    place: str = request.param
    if place.startswith("lambda"):
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    return place


@pytest.fixture
def variables() -> dict[str, object]:
    """Further settings, which a test may add to before it asks for `idiom`."""
    return {}


@pytest.fixture
def idiom(
    servers: Servers,
    database_name: str,
    place: str,
    variables: dict[str, object],
    pytestconfig: pytest.Config,
) -> Iterator[Idiom]:
    """Serve an application; when the test is over, its process must be as good as new."""
    door, route = place.split("-")
    given = {
        "DATABASE_URL": servers.url("pooled", database_name).render(),
        "DATABASE_URL_UNPOOLED": servers.url("direct", database_name).render(),
        "DATABASE_MODE": route,
        "DATABASE_POOL": "tiny",
        "ENVIRONMENT": "development",
        "DATABASE_POOL_TIMEOUT": "5",
        **variables,
    }
    database = Database(load_settings(**given))
    app = FastAPI()
    install(app, database)
    add_good_routes(app)
    is_quick = pytestconfig.getoption("markexpr") == "not slow"
    number = GOOD_REQUESTS // 10 if is_quick else GOOD_REQUESTS
    idiom = Idiom(app, database, door, lambda statement: servers.administer(statement, database_name), number)
    with idiom.serving:
        if door == "lambda":
            idiom.serving.enter_context(served_by_lambda(idiom))
        yield idiom
        idiom.is_whole()
    database.close()


def add_good_routes(app: FastAPI) -> None:
    """Add the routes that every process must serve after whatever it went through."""

    @app.get("/good/sync")
    def good_sync(session: ReadSessionDep) -> Any:
        return session.execute(text("SELECT 1")).scalar_one()

    @app.get("/good/async")
    async def good_async(session: AsyncReadSessionDep) -> Any:
        return (await session.execute(text("SELECT 1"))).scalar_one()


@contextmanager
def served_by_uvicorn(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve the application on a port, in a thread of this process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    try:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, limits=limits
        ) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def served_by_lambda(idiom: Idiom) -> Iterator[None]:
    """Answer Lambda's events, one at a time."""
    idiom.handler = adapted(idiom.app)
    loop = asyncio.get_event_loop()
    try:
        yield
    finally:
        loop.run_until_complete(idiom.database.aclose())
        loop.close()
        asyncio.set_event_loop(None)


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `holds()`, and fail if it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)
