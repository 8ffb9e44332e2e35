"""Responses that stream, through the packages in their platforms' runtimes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from tests.onetrip.environment import PROJECT
from tests.onetrip.events import Request
from tests.onetrip.network import until
from tests.packages.runtimes import Runtime, Server, Urls, VercelServer, emulator, vercel, web_function

# Parts of an event stream come this far apart.
PAUSE_SECONDS = 0.2
DEADLINE_SECONDS = 1
NAMES = ("vercel", "web function")


@pytest.fixture(scope="module")
def packages(
    lambda_api: Path, vercel_function: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Copies of the packages with the routes of `tests/platforms` beside the application's own."""
    return {
        name: _with_more_routes(package, tmp_path_factory.mktemp("more") / package.name)
        for name, package in {"vercel": vercel_function, "lambda": lambda_api}.items()
    }


def _with_more_routes(package: Path, copy: Path) -> Path:
    shutil.copytree(package, copy)
    for module in ("probes", "streams"):
        shutil.copy(PROJECT / "tests" / "platforms" / f"{module}.py", copy)
    index = copy / "api" / "index.py"
    index.write_text(f"{index.read_text()}\nimport probes, streams\napp.include_router(probes.router)\n")
    # It is not compared with its source.
    for compiled in (copy / "api" / "__pycache__").glob("index.*"):
        compiled.unlink()
    return copy


def _started(name: str, packages: dict[str, Path], **variables: str) -> AbstractContextManager[Server]:
    if name == "vercel":
        return vercel(packages["vercel"], **variables)
    return web_function(packages["lambda"], **variables)


@pytest.fixture(params=NAMES)
def server(request: pytest.FixtureRequest, packages: dict[str, Path], urls: Urls) -> Iterator[Server]:
    """A platform that passes on parts of a response as they come."""
    given = {"ENVIRONMENT": "preview", "REQUEST_TIMEOUT_SECONDS": str(DEADLINE_SECONDS), **urls.variables}
    with _started(request.param, packages, **given) as runtime:
        yield runtime


def _lines(runtime: Runtime, route: str) -> list[dict[str, Any]]:
    """The lines of the log about requests to `route`."""
    logged = (json.loads(line) for line in runtime.log().splitlines() if line.startswith("{"))
    return [line for line in logged if line.get("event") == "request" and line.get("route") == route]


def test_events_arrive_as_they_are_sent(server: Server) -> None:
    """For longer than the deadline of a part; the log has one line with the response's own request id."""
    count, arrived = 8, []
    with server.opened(Request("GET", "/streams/events", (("count", str(count)),))) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        while line := response.readline():
            if line.strip():
                arrived.append((line, time.monotonic()))
    assert [line for line, _ in arrived] == [f"data: {n}\n".encode() for n in range(count)]
    assert arrived[-1][1] - arrived[0][1] > DEADLINE_SECONDS
    until(lambda: bool(_lines(server, "/streams/events")))
    [logged] = _lines(server, "/streams/events")
    assert (logged["status"], logged["request_id"]) == (200, response.headers["x-request-id"])
    assert logged["duration_seconds"] > PAUSE_SECONDS * count * 0.9
    assert logged["round_trips"] >= count


@pytest.mark.parametrize(
    ("path", "first"), [("/streams/lines", b'{"n": 1}'), ("/streams/rows", b"n")], ids=["JSON lines", "CSV"]
)
def test_rows_are_read_to_their_end_and_their_connection_given_back(
    server: Server, path: str, first: bytes
) -> None:
    """All rows arrive; afterwards no connection is in use."""
    with server.opened(Request("GET", path)) as response:
        lines = response.read().splitlines()
    assert (response.status, lines[0], len(lines) in {500, 501}) == (200, first, True)
    state = server.ask(Request("GET", "/db/pool-status")).body
    assert isinstance(state, dict)
    assert state["checked_out"] == 0


def test_a_stream_that_stalls_ends_with_the_deadline(server: Server) -> None:
    """The client sees that the response is incomplete, and the log says why."""
    with server.opened(Request("GET", "/streams/stalled")) as response, pytest.raises(IncompleteRead):
        response.read()
    until(lambda: bool(_lines(server, "/streams/stalled")))
    [logged] = _lines(server, "/streams/stalled")
    assert logged["error"] == "DeadlineExceededError"
    assert DEADLINE_SECONDS <= logged["duration_seconds"] < 10 * DEADLINE_SECONDS


def test_a_client_that_leaves_ends_its_stream(server: Server) -> None:
    """An endless stream is over, with its log line, soon after its client is gone."""
    with server.opened(Request("GET", "/streams/endless")) as response:
        assert response.readline() == b"data: still here\n"
    until(lambda: bool(_lines(server, "/streams/endless")))


def test_vercels_own_deadline_ends_a_stream_as_ours_does(packages: dict[str, Path], urls: Urls) -> None:
    """What the invocation has left bounds each part, where that is less than the setting."""
    with vercel(packages["vercel"], REQUEST_TIMEOUT_SECONDS="60", **urls.variables) as runtime:
        assert isinstance(runtime, VercelServer)
        runtime.seconds = 2
        began = time.monotonic()
        with runtime.opened(Request("GET", "/streams/stalled")) as response, pytest.raises(IncompleteRead):
            response.read()
        assert time.monotonic() - began < 20


def test_behind_api_gateway_rows_are_whole_and_events_refused(packages: dict[str, Path], urls: Urls) -> None:
    """A response that is handed over whole says so instead of waiting for an end."""
    with emulator(packages["lambda"], **urls.variables) as runtime:
        rows = runtime.ask(Request("GET", "/streams/rows"))
        assert (rows.status, len(bytes(rows.body).splitlines())) == (200, 501)  # type: ignore[call-overload]
        refused = runtime.ask(Request("GET", "/streams/endless"))
    assert refused.status == 501
    assert isinstance(refused.body, dict)
    assert "stream" in refused.body["detail"]


@pytest.mark.parametrize("kind", ["text", "accented", "escaped", "binary"])
def test_the_largest_response_is_passed_on_and_a_larger_one_is_our_problem(
    packages: dict[str, Path], urls: Urls, kind: str
) -> None:
    """On either side of Lambda's 6 MB, however the body grows on its way, the answer is the application's."""
    factor = {"text": 1, "accented": 1, "escaped": 2, "binary": 4 / 3}[kind]
    sizes = [int(share * 6 * 2**20 / factor) // 2 * 2 for share in (0.9, 0.99, 1.01, 1.5)]
    asked = [Request("GET", "/probe/large", (("size", str(size)), ("kind", kind))) for size in sizes]
    with emulator(packages["lambda"], **urls.variables) as runtime:
        answers = [runtime.ask(request) for request in asked]
    assert [answer.status for answer in answers] == [200, 200, 500, 500]
    assert [len(bytes(answer.body)) for answer in answers[:2]] == sizes[:2]  # type: ignore[call-overload]
    for answer in answers[2:]:
        assert isinstance(answer.body, dict)
        assert "larger than this platform passes on" in answer.body["detail"]


def test_every_runtime_hands_over_what_was_sent(packages: dict[str, Path], urls: Urls) -> None:
    """Method, decoded path, repeated keys, bytes and two cookies are the same on each platform."""
    asked = {
        "keys": Request("GET", "/probe/echo/caf%C3%A9%20au%20lait", (("tag", "a"), ("tag", "b%20%2B%26c"))),
        "bytes": Request("POST", "/probe/echo/", body=bytes(range(256)), base64=True),
        "cookies": Request("GET", "/probe/cookies", headers={"cookie": "a=1; b=2"}),
        "compressed": Request("GET", "/probe/gzip", headers={"accept-encoding": "gzip"}),
        "elsewhere": Request("GET", "/probe/elsewhere"),
    }
    starts: dict[str, AbstractContextManager[Runtime]] = {
        "lambda": emulator(packages["lambda"], **urls.variables)
    }
    starts |= {name: _started(name, packages, **urls.variables) for name in NAMES}
    answers = {}
    for name, start in starts.items():
        with start as runtime:
            answers[name] = {what: runtime.ask(request) for what, request in asked.items()}
    assert {answer.status for answer in answers["lambda"].values()} == {200, 307}
    for name in NAMES:
        assert answers[name] == answers["lambda"], name
