"""The same request gets the same answer through every entrypoint, whose import uses no network."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.application import create_app
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from tests.example.conftest import TABLES, authorization
from tests.onetrip.databases import ROUTES
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY, clean_environment
from tests.onetrip.events import SHAPES, Event, Request
from tests.onetrip.servers import Servers
from tests.platforms import probes

DOORS = ("api.index", "api.aws_lambda", "api.aws_health")
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "api", "AWS_REGION": "eu-central-1"}
VERCEL = {"VERCEL": "1", "VERCEL_REGION": "fra1"}
# True if a request waits while the process starts.
STARTED_ON_DEMAND = {"vercel": VERCEL, "lambda": LAMBDA}
STARTED_AHEAD = {
    "server": {},
    **{
        kind: {**LAMBDA, "AWS_LAMBDA_INITIALIZATION_TYPE": kind}
        for kind in ("provisioned-concurrency", "snap-start", "lambda-managed-instances")
    },
}
# Members that differ from one request to the next behind every entrypoint.
VOLATILE = {"created_at", "updated_at", "completed_at", "latency_ms", "request_id"}
JSON = {"content-type": "application/json"}
INVOCATIONS = 50


def _post(path: str, value: object, *, base64: bool = False, token: dict[str, str] | None = None) -> Request:
    body = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    return Request("POST", path, body=body, headers=JSON | (token or {}), base64=base64)


REGISTER = "/api/v1/auth/register"
ZOE = {"username": "zoe", "email": "zoe@example.org", "password": "difference engine"}
# Hers, who is the first.
TOKEN = authorization(1)
SCRIPT = {
    "live": Request("GET", "/health/live"),
    "summary": Request("GET", "/health"),
    "create a user": _post(REGISTER, ZOE),
    "the same again": _post(REGISTER, ZOE),
    "an invalid user": _post(REGISTER, {"username": "z"}),
    "a text that is no JSON": _post(REGISTER, b'{"username": "z'),
    "create a task, in base64": _post("/api/v1/tasks", {"title": "Grüße 🌍"}, base64=True, token=TOKEN),
    "a task without an owner": _post("/api/v1/tasks", {"title": "?"}),
    "list": Request(
        "GET", "/api/v1/tasks", (("q", "gr%C3%BC%C3%9Fe%20%F0%9F%8C%8D"), ("limit", "5")), headers=TOKEN
    ),
    "list with a repeated key": Request(
        "GET", "/api/v1/tasks", (("status", "done"), ("status", "todo")), headers=TOKEN
    ),
    "an encoded path": Request("GET", "/api/v1/users/%31", headers=TOKEN),
    "change": Request("PATCH", "/api/v1/tasks/1", body=b'{"status": "done"}', headers=JSON | TOKEN),
    "delete": Request("DELETE", "/api/v1/tasks/1", headers=TOKEN),
    "what is deleted": Request("GET", "/api/v1/tasks/1", headers=TOKEN),
    "no such path": Request("GET", "/api/v1/nowhere/caf%C3%A9%20au%20lait"),
    "no such method": Request("PUT", "/api/v1/users"),
    "repeated and encoded keys": Request(
        "GET", "/probe/echo/caf%C3%A9%20au%20lait", (("tag", "a"), ("tag", "b%20%2B%26c"), ("k%C3%A9y", ""))
    ),
    "bytes": Request(
        "POST", "/probe/echo/", body=bytes(range(256)), headers={"content-type": "image/png"}, base64=True
    ),
}
EXPECTED = [200, 200, 201, 409, 422, 422, 201, 401, 200, 200, 200, 200, 204, 404, 404, 405, 200, 200]


@dataclass(frozen=True)
class Answer:
    """An answer as a client sees it."""

    status: int
    content_type: str | None
    body: object


class LambdaProcess:
    """A function's process with the real handler in it, and its answers so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def invoke(self, event: Event) -> dict[str, Any]:
        """Return the report on `event`: the handler's response, threads started, open descriptors."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def lambda_process(folder: Path, **variables: str) -> Iterator[LambdaProcess]:
    """Run a function's process in `folder`, where no `.env` lies."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.platforms.invoker"],
        cwd=folder,
        env=clean_environment(**LAMBDA, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield LambdaProcess(process)


@dataclass(frozen=True)
class Doors:
    """Lambda's entrypoint in a process and the plain application in this one, on the same database."""

    function: LambdaProcess
    client: TestClient
    database: Database

    def empty(self) -> None:
        """Start both from the same: no rows, and ids from one."""
        with self.database.engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {TABLES} RESTART IDENTITY")


@pytest.fixture(scope="module", params=ROUTES)
def doors(
    request: pytest.FixtureRequest,
    servers: Servers,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Doors]:
    """The entrypoints on a database of this module's own, direct and pooled."""
    with servers.copy(template) as name:
        variables = {
            "DATABASE_URL": servers.url("pooled", name).render(),
            "DATABASE_URL_UNPOOLED": servers.url("direct", name).render(),
            "DATABASE_MODE": request.param,
            "ENVIRONMENT": "development",
            "JWT_SECRET_KEY": JWT_SECRET_KEY,
            "JWT_ISSUER": JWT_ISSUER,
        }
        database = Database(load_settings(**variables))
        app = create_app(database)
        app.include_router(probes.router)
        with (
            TestClient(app, raise_server_exceptions=False, base_url="https://api.example.com") as client,
            lambda_process(tmp_path_factory.mktemp("function"), **variables) as function,
        ):
            yield Doors(function, client, database)
        database.close()


def through_asgi(client: TestClient, request: Request) -> Answer:
    """The answer of the plain application."""
    path = f"{request.path}?{request.raw_query}" if request.query else request.path
    answer = client.request(request.method, path, content=request.body, headers=request.headers)
    return Answer(answer.status_code, answer.headers.get("content-type"), _stable(answer.content))


def through_lambda(function: LambdaProcess, event: Event) -> Answer:
    """The answer that a client gets of the handler's response, as the service in front sends it on."""
    response = function.invoke(event)["response"]
    headers = {name.lower(): value for name, value in (response.get("headers") or {}).items()}
    lists = {name.lower(): values for name, values in (response.get("multiValueHeaders") or {}).items()}
    content_type = headers.get("content-type") or next(iter(lists.get("content-type", [])), None)
    body = response.get("body") or ""
    content = base64.b64decode(body) if response["isBase64Encoded"] else body.encode()
    return Answer(response["statusCode"], content_type, _stable(content))


def _stable(content: bytes) -> object:
    """The JSON without what differs from one request to the next."""
    return _without_volatile(json.loads(content)) if content else None


def _without_volatile(value: object) -> object:
    if isinstance(value, dict):
        return {
            name: "…" if name in VOLATILE and part is not None else _without_volatile(part)
            for name, part in value.items()
        }
    return [_without_volatile(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_request_gets_the_same_answer_through_every_door(doors: Doors, shape: str) -> None:
    """Status, content type and body do not depend on who hands the request over."""
    sent = {
        name: request.with_last_of_each() if shape == "load-balancer" else request
        for name, request in SCRIPT.items()
    }
    doors.empty()
    expected = {name: through_asgi(doors.client, request) for name, request in sent.items()}
    doors.empty()
    event = SHAPES[shape]
    assert [answer.status for answer in expected.values()] == EXPECTED
    assert {name: through_lambda(doors.function, event(sent[name])) for name in sent} == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_problems_are_sent_as_text(doors: Doors, shape: str) -> None:
    """A problem can be read where it is, in logs and consoles too, without decoding base64."""
    response = doors.function.invoke(SHAPES[shape](SCRIPT["no such path"]))["response"]
    headers = response.get("headers") or response["multiValueHeaders"]
    assert headers["content-type"] in ("application/problem+json", ["application/problem+json"])
    assert response["isBase64Encoded"] is False
    assert json.loads(response["body"])["status"] == 404


@pytest.mark.parametrize("shape", SHAPES)
def test_half_a_surrogate_pair_fails_no_invocation(doors: Doors, shape: str) -> None:
    """An event's JSON may hold text that is none; the request is answered, with question marks for it."""
    event = SHAPES[shape](Request("GET", "/health/live", headers={"x-request-id": "\ud800"}))
    assert through_lambda(doors.function, event).status == 200


@pytest.mark.parametrize("shape", SHAPES)
def test_every_answer_carries_a_request_id(doors: Doors, shape: str) -> None:
    """The id in a problem's body is the header's, through every entrypoint."""
    response = doors.function.invoke(SHAPES[shape](SCRIPT["no such path"]))["response"]
    headers = response.get("headers") or response["multiValueHeaders"]
    assert json.loads(response["body"])["request_id"] in headers["x-request-id"]


@pytest.mark.parametrize("path", ["/probe/sync", "/probe/sync-with-session", "/probe/async"])
def test_on_lambda_every_route_runs_on_the_loops_thread(doors: Doors, path: str) -> None:
    """On platforms that serve one request at a time, sync routes run on the loop's thread."""
    answer = through_lambda(doors.function, SHAPES["http-api"](Request("GET", path)))
    assert answer.body == {"on_loop_thread": True}


@pytest.mark.parametrize("platform", [{}, VERCEL], ids=["server", "vercel"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [("/probe/sync", False), ("/probe/sync-with-session", False), ("/probe/async", True)],
)
def test_elsewhere_a_sync_route_blocks_nobody(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, platform: dict[str, str], path: str, *, expected: bool
) -> None:
    """On platforms where many requests share the loop, sync work is done on another thread."""
    for name, value in platform.items():
        monkeypatch.setenv(name, value)
    given = {"DATABASE_URL": doors.database.url.render(), "DATABASE_MODE": "direct"}
    database = Database(load_settings(**given))
    app = create_app(database)
    app.include_router(probes.router)
    with TestClient(app) as client:
        assert client.get(path).json() == {"on_loop_thread": expected}
    database.close()


@pytest.mark.parametrize(
    "path",
    ["/api/v1/tasks", "/api/v1/tasks/4711", "/health", "/health/cold-start", "/probe/sync-with-session"],
)
def test_invocations_leave_no_thread_and_no_descriptor(doors: Doors, path: str) -> None:
    """Fifty in a row start no thread, and keep no more open than the first."""
    event = SHAPES["http-api"](Request("GET", path, headers=TOKEN))
    first = doors.function.invoke(event)
    answers = [doors.function.invoke(event) for _ in range(INVOCATIONS)]
    assert {answer["response"]["statusCode"] for answer in answers} == {first["response"]["statusCode"]}
    assert answers[-1]["threads"] == first["threads"]
    assert answers[-1]["descriptors"] <= first["descriptors"] + 2


@pytest.mark.parametrize("path", ["/probe/sync-backend", "/probe/async-backend"])
def test_the_process_keeps_its_connection_between_invocations(doors: Doors, path: str) -> None:
    """No invocation ends the engine, its connections or the loop they belong to."""
    event = SHAPES["http-api"](Request("GET", path))
    answers = [through_lambda(doors.function, event) for _ in range(3)]
    assert {answer.status for answer in answers} == {200}
    assert set(doors.function.invoke(event)["scopes"]) == {"http"}
    if doors.database.settings.mode == "direct":
        assert len({answer.body for answer in answers}) == 1


IMPORT = """
import importlib, os, socket, sys
importlib.import_module(sys.argv[1])
"""
NO_NETWORK = """
for name in os.listdir("/dev/fd"):
    try:
        copy = socket.socket(fileno=os.dup(int(name)))
    except OSError:
        continue
    with copy:
        assert copy.family == socket.AF_UNIX, f"descriptor {name} is of {copy.family}"
"""


def _opened(
    folder: Path, door: str, check: str, **variables: str
) -> tuple[list[object], tuple[int, str, str]]:
    """Import an entrypoint with a silent database; return its connections and the end of the import."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"postgresql://postgres@127.0.0.1:{listener.getsockname()[1]}/db"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", check, door],
            cwd=folder,
            env=clean_environment(DATABASE_URL=url, **variables),
            capture_output=True,
            text=True,
            check=False,
        )
        callers: list[object] = []
        with suppress(BlockingIOError):
            while True:
                connection, address = listener.accept()
                connection.close()
                callers.append(address)
        return callers, (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("platform", STARTED_AHEAD)
@pytest.mark.parametrize("door", DOORS)
def test_opening_a_door_connects_to_nothing(tmp_path: Path, door: str, platform: str) -> None:
    """If no request waits, an import gives no warning and opens nothing: no socket, no file."""
    callers, end = _opened(tmp_path, door, IMPORT + NO_NETWORK, **STARTED_AHEAD[platform])
    assert end == (0, "", "")
    assert callers == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("platform", STARTED_ON_DEMAND)
@pytest.mark.parametrize("door", DOORS)
def test_opening_a_door_waits_for_nothing(tmp_path: Path, door: str, platform: str) -> None:
    """If a request waits, at most one connection is begun, and the import does not wait for it."""
    callers, end = _opened(tmp_path, door, IMPORT, **STARTED_ON_DEMAND[platform])
    # A machine so busy that importing outlasts the early connection logs that.
    code, _, errors = end
    assert (code, errors) == (0, "")
    assert len(callers) <= 1


@pytest.mark.parametrize("door", DOORS)
def test_a_door_that_cannot_open_says_why_in_a_line(tmp_path: Path, door: str) -> None:
    """Without a database's URL the import ends with one line and exit code 2."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, door],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("DATABASE_URL: is missing.")
    assert done.stderr.count("\n") == 1
