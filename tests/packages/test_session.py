"""One session through the built packages, each in its platform's runtime, and uvicorn: the same answers."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lib.onetrip.pool.validation import PING_AFTER_SECONDS
from tests.example.conftest import TABLES, authorization
from tests.onetrip.events import Request
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.packages.runtime_api import instance, restored
from tests.packages.runtimes import Answer, Runtime, Urls, emulator, uvicorn, vercel, web_function

JSON = {"content-type": "application/json"}
LAMBDAS: dict[str, Callable[..., AbstractContextManager[Runtime]]] = {
    "emulator": emulator,
    "freezing lambda": instance,
    "restored lambda": restored,
}
RUNTIMES = ("uvicorn", *LAMBDAS, "vercel", "web function")
# The emulator counts the start of the process as a part of its first invocation.
LAMBDA_SECONDS = "10"
# Longer than any deadline here.
SLOW_CHANGES = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(15); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION wait();
"""


def _send(method: str, path: str, value: object, *, user_id: int = 0, padding: int = 0) -> Request:
    body = json.dumps(value).encode() + b" " * padding
    # A client sends the length; an event has it among its headers already.
    return Request(method, path, body=body, headers=JSON | (authorization(user_id) if user_id else {}))


def _ask(method: str, path: str, query: tuple[tuple[str, str], ...] = (), *, user_id: int = 1) -> Request:
    return Request(method, path, query, headers=authorization(user_id))


REGISTER = "/api/v1/auth/register"
ADA = {"username": "ada", "email": "ada@example.com", "password": "difference engine"}
BOB = {"username": "bob", "email": "bob@example.com", "password": "difference engine"}
COMPRESSED = JSON | {"content-encoding": "gzip"}
TEXT = {"content-type": "application/x-www-form-urlencoded"}
SESSION = {
    "it lives": (Request("GET", "/health/live"), 200),
    "it is ready": (Request("GET", "/health/ready"), 200),
    "its database": (Request("GET", "/health/db"), 200),
    "a summary": (Request("GET", "/health"), 200),
    "create": (_send("POST", REGISTER, ADA), 201),
    "create again": (_send("POST", REGISTER, ADA), 409),
    "create with 900 KB": (_send("POST", REGISTER, BOB, padding=900_000), 201),
    "create with too much": (_send("POST", REGISTER, BOB, padding=1_100_000), 413),
    "create with 4 MB": (_send("POST", REGISTER, BOB, padding=4_000_000), 413),
    "create nonsense": (_send("POST", REGISTER, {"username": "a"}), 422),
    "a wrong password": (
        Request("POST", "/api/v1/auth/token", body=b"username=ada&password=wrong", headers=TEXT),
        400,
    ),
    "a task": (_send("POST", "/api/v1/tasks", {"title": "Grüße 🌍"}, user_id=1), 201),
    "a task without an owner": (_send("POST", "/api/v1/tasks", {"title": "?"}, user_id=4711), 401),
    "a task without a token": (_send("POST", "/api/v1/tasks", {"title": "?"}), 401),
    "no JSON, though it says so": (Request("POST", REGISTER, body=b'{"username": "z', headers=JSON), 422),
    "bytes": (
        Request("POST", REGISTER, body=bytes(range(256)), headers={"content-type": "image/png"}, base64=True),
        415,
    ),
    "compressed": (
        Request("POST", REGISTER, body=gzip.compress(b"{}"), headers=COMPRESSED, base64=True),
        415,
    ),
    "read": (_ask("GET", "/api/v1/users/1"), 200),
    "list": (_ask("GET", "/api/v1/tasks", (("q", "gr%C3%BC%C3%9Fe"), ("limit", "5"))), 200),
    "change": (_send("PATCH", "/api/v1/users/3", {"username": "bobby"}, user_id=3), 200),
    "a repeated key": (_ask("GET", "/api/v1/tasks", (("status", "done"), ("status", "todo"))), 200),
    "an encoded path": (_ask("GET", "/api/v1/users/%31"), 200),
    "the head of a list": (_ask("HEAD", "/api/v1/tasks", (("limit", "5"),)), 200),
    "documentation": (Request("GET", "/docs"), 200),
    "its head": (Request("HEAD", "/docs"), 200),
    "description": (Request("GET", "/openapi.json"), 200),
    "a page": (Request("GET", "/status"), 200),
    "another Host": (Request("GET", "/health/live", headers={"host": "evil.example:70000"}), 200),
    "an odd Host": (Request("GET", "/health/live", headers={"host": "[2001:db8::1]"}), 200),
    "two slashes": (Request("GET", "//evil.example/"), 404),
    "a slash at the end": (Request("GET", "/health/live/"), 404),
    "no such user": (_ask("GET", "/api/v1/users/4711"), 404),
    "no such path": (Request("GET", "/nowhere/caf%C3%A9%20au%20lait"), 404),
    "no such method": (Request("PUT", "/api/v1/users"), 405),
    "options": (Request("OPTIONS", "/api/v1/tasks"), 405),
    "delete": (_ask("DELETE", "/api/v1/users/3", user_id=3), 204),
}
CHANGE = _send("PATCH", "/api/v1/users/1", {"username": "augusta"}, user_id=1)


@pytest.fixture
def packages(lambda_api: Path, vercel_function: Path) -> dict[str, Path]:
    """The process of each platform."""
    return {"lambda": lambda_api, "vercel": vercel_function}


def started(name: str, packages: dict[str, Path], **variables: str) -> AbstractContextManager[Runtime]:
    """The runtime of this name, with its package and `variables`."""
    if name == "uvicorn":
        return uvicorn(**variables)
    if name == "vercel":
        return vercel(packages["vercel"], **variables)
    if name == "web function":
        return web_function(packages["lambda"], **variables)
    return LAMBDAS[name](packages["lambda"], **variables)


@contextmanager
def locked_user(urls: Urls) -> Iterator[None]:
    """Another transaction changes user 1, for as long as the block takes."""
    arguments: Any = urls.direct.connect_arguments()
    with psycopg.connect(**arguments) as connection:
        connection.execute("SELECT 1 FROM users WHERE id = 1 FOR UPDATE")
        yield


@contextmanager
def slow_changes(servers: Servers, urls: Urls) -> Iterator[None]:
    """Within the block, changing a user takes longer than anyone waits."""
    servers.administer(SLOW_CHANGES, str(urls.direct.database))
    yield
    servers.administer("DROP FUNCTION wait CASCADE", str(urls.direct.database))


def proxy_to(urls: Urls) -> Proxy:
    """A network between the application and what serves its requests."""
    target = urls.pooled if urls.route == "pooled" else urls.direct
    return Proxy((str(target.host), target.port or 5432))


def through(proxy: Proxy, urls: Urls) -> dict[str, str]:
    """The variables with which the application connects through the proxy."""
    behind = Urls(replace(urls.pooled, port=proxy.port), replace(urls.direct, port=proxy.port), urls.route)
    return behind.variables


def problem(answer: Answer) -> tuple[int, object]:
    """The status of an answer, and what kind of problem it names."""
    return answer.status, answer.body["type"] if isinstance(answer.body, dict) else answer.body


def connections(servers: Servers, urls: Urls) -> int:
    """Count the application's connections on the server or the pooler."""
    name = str(urls.direct.database)
    if urls.route == "pooled":
        return sum(client["database"] == name for client in servers.pooler.show("CLIENTS"))
    rows = servers.administer("SELECT datname, application_name FROM pg_stat_activity")
    return rows.count((name, "onetrip"))


def end_connections(servers: Servers, urls: Urls) -> int:
    """End the application's connections from the server's side, or the pooler's; how many there were."""
    name = str(urls.direct.database)
    if urls.route == "pooled":
        count = connections(servers, urls)
        servers.pooler.command(f"KILL {name}")
        servers.pooler.command(f"RESUME {name}")
        return count
    ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'onetrip'"
    return len(servers.administer(f"SELECT pg_terminate_backend(pid, 5000) {ours}", name))


def session(runtime: Runtime) -> dict[str, Answer]:
    """The answers to the whole session."""
    return {name: runtime.ask(request) for name, (request, _) in SESSION.items()}


def test_every_runtime_gives_the_same_answers(
    servers: Servers, urls: Urls, packages: dict[str, Path]
) -> None:
    """On each platform a session has the same answers, to the byte where nothing is volatile."""
    answers: dict[str, dict[str, Answer]] = {}
    for name in RUNTIMES:
        servers.empty(str(urls.direct.database), TABLES)
        with started(name, packages, ENVIRONMENT="preview", **urls.variables) as runtime:
            answers[name] = session(runtime)
    statuses = {name: answer.status for name, answer in answers["uvicorn"].items()}
    assert statuses == {name: status for name, (_, status) in SESSION.items()}
    for name in RUNTIMES:
        assert answers[name] == answers["uvicorn"], name


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_row_that_others_hold_is_not_waited_for_long(
    urls: Urls, packages: dict[str, Path], name: str
) -> None:
    """While another transaction changes the row, the client gets `Retry-After`; later it succeeds."""
    with started(name, packages, REQUEST_TIMEOUT_SECONDS="4", **urls.variables) as runtime:
        assert runtime.ask(SESSION["create"][0]).status == 201
        with locked_user(urls):
            assert problem(runtime.ask(CHANGE)) == (503, "urn:problem:busy")
        assert runtime.ask(CHANGE).status == 200


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_query_that_takes_too_long_is_ended(
    servers: Servers, urls: Urls, packages: dict[str, Path], name: str
) -> None:
    """At the request's deadline the client gets a 504 and the query is ended; the instance serves on."""
    with started(name, packages, REQUEST_TIMEOUT_SECONDS="3", **urls.variables) as runtime:
        assert runtime.ask(SESSION["create"][0]).status == 201
        with slow_changes(servers, urls):
            assert problem(runtime.ask(CHANGE)) == (504, "urn:problem:timeout")
        assert runtime.ask(CHANGE).status == 200


def test_lambda_answers_before_its_time_is_over(servers: Servers, urls: Urls, lambda_api: Path) -> None:
    """The function's own timeout bounds a request, so that the platform never has to end one."""
    variables = {"AWS_LAMBDA_FUNCTION_TIMEOUT": LAMBDA_SECONDS, "REQUEST_TIMEOUT_SECONDS": "60"}
    with emulator(lambda_api, **variables, **urls.variables) as runtime:
        assert runtime.ask(SESSION["it lives"][0]).status == 200
        assert runtime.ask(SESSION["create"][0]).status == 201
        with slow_changes(servers, urls):
            assert problem(runtime.ask(CHANGE)) == (504, "urn:problem:timeout")


def test_vercel_answers_before_its_time_is_over(servers: Servers, urls: Urls, vercel_function: Path) -> None:
    """The invocation's deadline, which Vercel tells with each request, bounds it."""
    with vercel(vercel_function, REQUEST_TIMEOUT_SECONDS="60", **urls.variables) as runtime:
        assert runtime.ask(SESSION["create"][0]).status == 201
        runtime.seconds = 3
        with slow_changes(servers, urls):
            assert problem(runtime.ask(CHANGE)) == (504, "urn:problem:timeout")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_frozen_process_thaws_without_an_error(
    servers: Servers, urls: Urls, packages: dict[str, Path], name: str
) -> None:
    """Connections that the server ended during a freeze cause no error for clients."""
    with started(name, packages, **urls.variables) as runtime:
        assert runtime.ask(SESSION["create"][0]).status == 201
        with runtime.frozen():
            assert end_connections(servers, urls) > 0
        assert runtime.ask(CHANGE).status == 200


@pytest.mark.parametrize("urls", ["pooled"], indirect=True)
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_connection_that_was_forgotten_during_a_freeze_is_replaced(
    urls: Urls, packages: dict[str, Path], name: str
) -> None:
    """Frozen for so long that the network dropped its connections silently, it serves on."""
    with proxy_to(urls).running() as proxy, started(name, packages, **through(proxy, urls)) as runtime:
        assert runtime.ask(SESSION["create"][0]).status == 201
        with runtime.frozen():
            proxy.forget()
            # No waiting for something: this is how long the freeze is, on the clocks of the process.
            time.sleep(PING_AFTER_SECONDS + 0.5)
        assert runtime.ask(CHANGE).status == 200


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_instance_that_started_without_its_database_serves_once_it_is_there(
    urls: Urls, packages: dict[str, Path], name: str
) -> None:
    """It starts, says what it lacks, and needs no restart when the database comes up."""
    with proxy_to(urls).running() as proxy, ExitStack() as stack:
        with proxy.down():
            variables = {"REQUEST_TIMEOUT_SECONDS": "2", **through(proxy, urls)}
            runtime = stack.enter_context(started(name, packages, **variables))
            assert runtime.ask(SESSION["it lives"][0]).status == 200
            assert runtime.ask(SESSION["it is ready"][0]).status == 503
            assert runtime.ask(SESSION["create"][0]).status == 503
        assert runtime.ask(SESSION["create"][0]).status == 201


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_terminated_process_ends_and_its_connections_with_it(
    servers: Servers, urls: Urls, packages: dict[str, Path], name: str
) -> None:
    """On SIGTERM a process ends by itself, and nothing of it stays in the server or the pooler."""
    with started(name, packages, **urls.variables) as runtime:
        assert runtime.ask(SESSION["create"][0]).status == 201
        assert connections(servers, urls) > 0
        runtime.terminate()
    # The end of a connection takes a moment to arrive.
    assert any(connections(servers, urls) == 0 for _ in range(1000))


@pytest.mark.parametrize("urls", ["pooled"], indirect=True)
def test_lambda_takes_its_leave_in_time(servers: Servers, urls: Urls, lambda_api: Path) -> None:
    """On SIGTERM a function closes its connections as the protocol wants it, before it would be killed."""
    with emulator(lambda_api, **urls.variables) as runtime:
        assert runtime.ask(SESSION["create"][0]).status == 201
        runtime.terminate()
        # The emulator kills a process that takes longer than the 500 ms that Lambda gives.
        assert "SIGKILL" not in runtime.log()
    assert any(connections(servers, urls) == 0 for _ in range(1000))
    log = (servers.pooler.folder / "pgbouncer.log").read_text().splitlines()
    ends = [line for line in log if f"{urls.pooled.database}/" in line and "closing because" in line]
    assert [line for line in ends if "client close request" not in line] == []
    assert ends
