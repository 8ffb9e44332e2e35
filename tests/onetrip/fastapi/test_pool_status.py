"""The state of the pool, long checkouts, and slow statements."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lib.onetrip.deadlines import deadline
from lib.onetrip.fastapi.sessions import AsyncSessionDep, DatabaseDep, SessionDep
from lib.onetrip.observability.json_log import JSONLine
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_transaction, transaction
from tests.onetrip.application import create_app
from tests.onetrip.assertions import assert_problem

if TYPE_CHECKING:
    from lib.onetrip.settings.settings import Settings

PATH = "/db/pool-status"
TOKEN = "0123456789abcdef-operator"
SECRET = "hunter2secret"
# Longer than nothing, so that whatever is looked at has been held too long.
NOTHING = "0.001"


def _basic(password: str) -> str:
    return f"Basic {b64encode(f'operator:{password}'.encode()).decode()}"


router = APIRouter(prefix="/loans")


@router.get("/{number}/sync")
def hold_and_ask(number: int, session: SessionDep, database: DatabaseDep) -> list[dict[str, Any]]:
    session.execute(text("SELECT pg_sleep(0.01), :number"), {"number": number})
    database.pool_watch.warn_of_leaks()
    return database.pool_watch.longest()


@router.get("/{number}/async")
async def hold_and_ask_asynchronously(
    number: int, session: AsyncSessionDep, database: DatabaseDep
) -> list[dict[str, Any]]:
    await session.execute(text("SELECT pg_sleep(0.01), :number"), {"number": number})
    database.pool_watch.warn_of_leaks()
    return database.pool_watch.longest()


@contextmanager
def _served(settings: Settings) -> Iterator[TestClient]:
    database = Database(settings)
    app = create_app(database)
    app.include_router(router)
    with TestClient(app) as client:
        yield client
    anyio.run(database.aclose)


def _told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """Return the fields of the lines about an event."""
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == event]


def test_the_pool_is_told_as_it_is(database: Database, client: TestClient) -> None:
    """In use and at rest, each connection is counted once; asking opens none."""
    at_rest = {"checked_in": 0, "checked_out": 0, "overflow": 0, "total": 0, "utilization": 0.0}
    sizes = {"kind": "server", "size": 5, "capacity": 10, "waiting": 0, "turned_away": 0}
    assert client.get(PATH).json() == {**sizes, **at_rest, "longest_held": []}
    with transaction(database) as one, transaction(database) as other:
        for session in (one, other):
            session.execute(text("SELECT 1"))
        busy = client.get(PATH).json()
        assert [busy[name] for name in ("checked_in", "checked_out", "total")] == [0, 2, 2]
        assert busy["utilization"] == 0.2
        assert len(busy["longest_held"]) == 2
    rested = client.get(PATH).json()
    assert [rested[name] for name in ("checked_in", "checked_out", "total")] == [2, 0, 2]
    assert rested["longest_held"] == []


@pytest.mark.parametrize(("pool", "beyond"), [("server", 1), ("tiny", 0), ("null", 0)])
def test_every_kind_of_pool_counts_what_is_out(
    make_settings: Callable[..., Settings], pool: str, beyond: int
) -> None:
    """A pool that keeps nothing has nothing checked in, and an overflow is told."""
    variables = {"DATABASE_POOL_SIZE": "1"} if pool == "server" else {}
    with _served(make_settings(DATABASE_POOL=pool, **variables)) as client:
        database: Database = client.app.state.onetrip.database  # type: ignore[attr-defined]
        with transaction(database) as one, transaction(database) as other:
            for session in (one, other):
                session.execute(text("SELECT 1"))
            busy = client.get(PATH).json()
        assert (busy["kind"], busy["checked_out"], busy["overflow"]) == (pool, 2, beyond)
        assert client.get(PATH).json()["checked_in"] == {"server": 1, "tiny": 2, "null": 0}[pool]


@pytest.mark.parametrize("route", ["pooled"])
@pytest.mark.parametrize(
    ("token", "authorization", "status"),
    [
        (TOKEN, None, 401),
        (TOKEN, f"Bearer {TOKEN}", 200),
        (TOKEN, f"bearer {TOKEN}", 200),
        (TOKEN, _basic(TOKEN), 200),
        (TOKEN, _basic(f"{TOKEN}x"), 401),
        (TOKEN, "Basic !!!", 401),
        (TOKEN, "Basic /w==", 401),
        (TOKEN, f"Digest {TOKEN}", 401),
        (TOKEN, "Bearer ", 401),
        (TOKEN, "Bearer \xff\xff", 401),
        (None, f"Bearer {TOKEN}", 404),
        (None, _basic(""), 404),
    ],
)
def test_in_production_the_pool_is_the_operators(
    make_settings: Callable[..., Settings], token: str | None, authorization: str | None, status: int
) -> None:
    """By the token as a bearer's, or as a password, which is how browsers ask; without one there is none."""
    variables = {"OPS_TOKEN": token} if token else {}
    with _served(make_settings(ENVIRONMENT="production", **variables)) as client:
        headers = [(b"authorization", authorization.encode("latin-1"))] if authorization else []
        response = client.get(PATH, headers=headers)
    assert response.status_code == status
    if status != 200:
        assert_problem(response, status)
    assert ("www-authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_connection_that_is_held_too_long_is_told_once(
    make_settings: Callable[..., Settings], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names the code and the route of the checkout; another line reports the return."""
    caplog.set_level(logging.INFO, "lib.onetrip")
    with _served(make_settings(CONNECTION_LEAK_SECONDS=NOTHING)) as client:
        response = client.get(f"/loans/4711/{way}")
        asked = client.get(PATH).json()
    (warning,) = _told(caplog, "a connection is held too long")
    (returned,) = _told(caplog, "a connection that was held too long came back")
    assert warning["held_by_route"] == returned["held_by_route"] == f"/loans/{{number}}/{way}"
    assert warning["held_by_request"] == response.headers["x-request-id"]
    assert returned["held_seconds"] >= warning["held_seconds"] >= 0.01
    route = "hold_and_ask" if way == "sync" else "hold_and_ask_asynchronously"
    assert any(line.startswith(__file__) and line.endswith(f" {route}") for line in warning["borrower"]), (
        warning["borrower"]
    )
    (loan,) = response.json()
    assert loan["borrower"] == warning["borrower"]
    assert asked["longest_held"] == []


def test_a_connection_that_comes_back_in_time_is_not_told(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Ordinary work leaves no line."""
    caplog.set_level(logging.INFO, "lib.onetrip")
    assert client.get("/health/db").status_code == 200
    assert _told(caplog, "a connection is held too long") == []
    assert _told(caplog, "a connection that was held too long came back") == []


def test_whoever_forgets_a_connection_is_found_at_the_next_request(
    make_settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    """No thread watches: what others do next shows that a connection never came back."""
    with _served(make_settings(CONNECTION_LEAK_SECONDS=NOTHING)) as client:
        database: Database = client.app.state.onetrip.database  # type: ignore[attr-defined]
        forgotten = database.engine.connect()
        forgotten.execute(text("SELECT pg_sleep(0.01)"))
        assert _told(caplog, "a connection is held too long") == []
        client.get("/health/live")
        (warning,) = _told(caplog, "a connection is held too long")
        assert warning["held_by_route"] is None
        assert "test_whoever_forgets" in warning["borrower"][-1]
        client.get("/health/live")
        forgotten.close()
    assert len(_told(caplog, "a connection is held too long")) == 1


@asynccontextmanager
async def _asynchronously(database: Database) -> AsyncIterator[Any]:
    async with async_transaction(database) as session:
        yield session
    await database.aclose()


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("statement", ["SELECT pg_sleep(0.31), :secret AS x", "SELECT pg_sleep(9), :secret"])
def test_a_slow_statement_is_told_without_its_data(
    make_settings: Callable[..., Settings], way: str, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning with text and duration, though the statement ran into its timeout; none for a fast one."""
    database = Database(make_settings(SLOW_QUERY_SECONDS="0.3"))
    fast, slow = text("SELECT 1"), text(statement)

    def sync() -> None:
        with transaction(database) as session:
            session.execute(fast)
            session.execute(slow, {"secret": SECRET})

    async def asynchronous() -> None:
        async with _asynchronously(database) as session:
            await session.execute(fast)
            await session.execute(slow, {"secret": SECRET})

    with deadline(0.8 if "(9)" in statement else 10):
        try:
            sync() if way == "sync" else anyio.run(asynchronous)
        except DBAPIError:
            assert "(9)" in statement
    anyio.run(database.aclose)
    told = _told(caplog, "slow query")
    # On a busy machine the fast one may be slow, too.
    (slow_one,) = [line for line in told if line["statement"] != "SELECT 1"]
    assert slow_one["statement"].startswith(statement.partition(",")[0])
    assert all(line["duration_seconds"] >= 0.3 for line in told)
    assert SECRET not in caplog.text + str(told)


@pytest.mark.parametrize(
    ("way", "asks"), [("sync", "hold_and_ask"), ("async", "hold_and_ask_asynchronously")]
)
def test_a_slow_statement_is_told_with_its_route(
    make_settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture, way: str, asks: str
) -> None:
    """The line is about the request that it held up, and says which line of whose code asked."""
    records: list[Any] = []
    with _served(make_settings(SLOW_QUERY_SECONDS="0.005")) as client:
        caplog.handler.setFormatter(_Keeping(records))
        client.get(f"/loans/4711/{way}")
    (line,) = [line for line in records if line["event"] == "slow query"]
    assert line["route"] == f"/loans/{{number}}/{way}"
    assert line["statement"].startswith("SELECT pg_sleep(0.01), ")
    assert line["caller"][-1].startswith(__file__)
    assert line["caller"][-1].endswith(f" {asks}")


class _Keeping(logging.Formatter):
    """Keeps what a record's line would hold."""

    def __init__(self, lines: list[Any]) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        line = JSONLine(lambda text: text).format(record)
        self._lines.append(json.loads(line))
        return line
