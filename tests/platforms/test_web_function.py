"""The application as an AWS Lambda Web Function: many requests at once, streams, an end within a second."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.application import create_app
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from tests.example.conftest import TABLES
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY
from tests.onetrip.events import Request
from tests.onetrip.network import until
from tests.onetrip.servers import Servers
from tests.platforms.test_entrypoints import EXPECTED, SCRIPT, TOKEN, Answer, _stable, through_asgi
from tests.platforms.web_function import MOST_AT_ONCE, WebFunction, web_function

pytestmark = pytest.mark.slow

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name <> '' AND datname = '{name}'"


@dataclass(frozen=True)
class Function:
    """An execution environment, its database's name, and the lines that it has logged."""

    environment: WebFunction
    name: str
    log: Path

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def variables(servers: Servers, template: str) -> Iterator[dict[str, str]]:
    """The environment variables of a revision, with a database of the test's own."""
    with servers.copy(template) as name:
        yield {
            "DATABASE_URL": servers.url("pooled", name).render(),
            "DATABASE_URL_UNPOOLED": servers.url("direct", name).render(),
            "JWT_SECRET_KEY": JWT_SECRET_KEY,
            "JWT_ISSUER": JWT_ISSUER,
        }


@pytest.fixture
def function(variables: dict[str, str], tmp_path: Path) -> Iterator[Function]:
    """An execution environment of the application, with routes that stream."""
    log, name = tmp_path / "log", variables["DATABASE_URL"].rpartition("/")[2]
    with web_function(
        tmp_path, "asgi:tests.platforms.streams:app", log, ENVIRONMENT="preview", **variables
    ) as environment:
        yield Function(environment, name, log)


def test_the_same_requests_get_the_same_answers(
    servers: Servers, variables: dict[str, str], tmp_path: Path
) -> None:
    """Through a Web Function as through the plain application."""
    sent = {name: request for name, request in SCRIPT.items() if not request.path.startswith("/probe")}
    database = Database(load_settings(**variables, ENVIRONMENT="development"))
    with TestClient(create_app(database), raise_server_exceptions=False) as client:
        expected = {name: through_asgi(client, request) for name, request in sent.items()}
    assert [answer.status for answer in expected.values()] == EXPECTED[: len(sent)]
    name = variables["DATABASE_URL"].rpartition("/")[2]
    servers.administer(f"TRUNCATE {TABLES} RESTART IDENTITY", name)
    with web_function(
        tmp_path, "api.index:app", tmp_path / "log", ENVIRONMENT="development", **variables
    ) as environment:
        asked = {name: environment.ask(request) for name, request in sent.items()}
    found = {name: Answer(status, kind, _stable(body)) for name, (status, kind, body) in asked.items()}
    assert found == expected


def test_as_many_at_once_as_aws_sends_share_two_connections(servers: Servers, function: Function) -> None:
    """128 requests at once are all answered, on the pooled URL and with the pool of two."""
    requests = [Request("GET", "/health/ready"), Request("GET", "/api/v1/tasks", headers=TOKEN)]
    register = {"username": "zoe", "email": "zoe@example.org", "password": "difference engine"}
    body = json.dumps(register).encode()
    made = function.environment.ask(
        Request("POST", "/api/v1/auth/register", body=body, headers={"content-type": "application/json"})
    )
    assert made[0] == 201
    answers = function.environment.ask_at_once(requests * (MOST_AT_ONCE // 2))
    assert {status for status, _, _ in answers} == {200}
    [(connections,)] = servers.administer(CONNECTIONS.format(name=function.name))
    assert 1 <= connections <= 2


def test_it_knows_where_it_runs(function: Function) -> None:
    """Platform, pool and metrics are a Web Function's."""
    status, _, body = function.environment.ask(Request("GET", "/db/pool-status"))
    assert (status, json.loads(body)["size"]) == (200, 2)
    _, _, body = function.environment.ask(Request("GET", "/health/cold-start"))
    assert json.loads(body)["platform"] == "lambda-web-function"
    until(lambda: bool(function.lines))
    line = function.lines[-1]
    assert line["function"] == "web-function"
    assert line["_aws"]["CloudWatchMetrics"]


@pytest.mark.parametrize("way", ["idle", "with a request under way", "with a stream under way"])
def test_sigterm_closes_its_connections_within_a_second(
    servers: Servers, function: Function, way: str
) -> None:
    """Idle connections are closed at once; a request that ends in time is answered."""
    environment = function.environment
    assert environment.ask(Request("GET", "/health/ready"))[0] == 200
    assert servers.administer(CONNECTIONS.format(name=function.name)) != [(0,)]
    if way == "idle":
        assert environment.end()
    elif way == "with a request under way":
        with ThreadPoolExecutor(1) as clients:
            slow = clients.submit(environment.ask, Request("GET", "/streams/slow", (("seconds", "0.6"),)))
            time.sleep(0.3)
            assert environment.end()
            assert slow.result()[0] == 200
    else:
        with environment.opened(Request("GET", "/streams/endless")) as stream:
            assert stream.readline() == b"data: still here\n"
            environment.end()
    servers.pooler.command(f"RECONNECT {function.name}")
    until(lambda: servers.administer(CONNECTIONS.format(name=function.name)) == [(0,)])


def test_events_arrive_as_they_are_sent(function: Function) -> None:
    """A stream of events is not buffered, holds no connection between events, and is one line of the log."""
    arrived = []
    with function.environment.opened(Request("GET", "/streams/events", (("count", "4"),))) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        while line := response.readline():
            if line.strip():
                arrived.append((line, time.monotonic()))
    assert [line for line, _ in arrived] == [f"data: {n}\n".encode() for n in range(4)]
    assert arrived[-1][1] - arrived[0][1] > 0.3
    until(lambda: bool(function.lines))
    logged = function.lines[-1]
    assert (logged["route"], logged["status"]) == ("/streams/events", 200)
    assert logged["request_id"] == response.headers["x-request-id"]
    assert logged["duration_seconds"] > 0.6
    assert logged["round_trips"] >= 4


@pytest.mark.parametrize(
    ("path", "first"), [("/streams/lines", b'{"n": 1}'), ("/streams/rows", b"n")], ids=["JSON lines", "CSV"]
)
def test_rows_are_streamed(function: Function, path: str, first: bytes) -> None:
    """A session that the generator opens is read to its end, and given back."""
    status, _, body = function.environment.ask(Request("GET", path))
    assert status == 200
    assert body.splitlines()[0] == first
    assert body.count(b"\n") in {500, 501}
    answers = function.environment.ask_at_once([Request("GET", path)] * 20)
    assert {(status, len(rows)) for status, _, rows in answers} == {(200, len(body))}
    _, _, state = function.environment.ask(Request("GET", "/db/pool-status"))
    assert json.loads(state)["checked_out"] == 0


def test_a_stream_that_stalls_ends_with_the_deadline(variables: dict[str, str], tmp_path: Path) -> None:
    """An endless response is cut off at the request's deadline, and the log reports it."""
    log = tmp_path / "log"
    with web_function(
        tmp_path, "tests.platforms.streams:app", log, REQUEST_TIMEOUT_SECONDS="1", **variables
    ) as environment:
        with environment.opened(Request("GET", "/streams/stalled")) as stream, pytest.raises(IncompleteRead):
            stream.read()
        until(lambda: "/streams/stalled" in log.read_text())
    [line] = [json.loads(line) for line in log.read_text().splitlines() if '"event": "request"' in line]
    assert line["error"] == "DeadlineExceededError"
    assert 1 <= line["duration_seconds"] < 10


def test_a_refused_upload_is_read_to_its_end(function: Function) -> None:
    """Behind a half-duplex proxy the client of a body that is too large gets its 413."""
    body = b"a" * 5_000_000
    headers = {"content-type": "application/json"}
    status, kind, _ = function.environment.ask(
        Request("POST", "/api/v1/auth/register", body=body, headers=headers)
    )
    assert (status, kind) == (413, "application/problem+json")
