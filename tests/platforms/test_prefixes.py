"""The application is reached below any stage, base path or proxy's prefix, and its links stay there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from lib.onetrip.aws.adapter import adapted
from lib.onetrip.fastapi.requests import install_requests
from lib.onetrip.fastapi.services import Services
from lib.onetrip.health.probe import Probe
from lib.onetrip.settings.settings import load_settings
from tests.onetrip.events import SHAPES, Context, Event, Request, http_api, rest_api

URL = "postgresql://postgres@127.0.0.1:1/db"
LARGE = {"load-balancer": 900_000, "load-balancer-multi-value": 900_000}
HOSTS = ("[2001:db8::1]", "[2001:db8::1]:443", "a:b:c", "a:", "[::1", "", ":443", "a b")
Answer = dict[str, Any]


def application(**variables: str) -> FastAPI:
    """An application with the package's middleware and a few routes, which needs no database."""
    settings = load_settings(DATABASE_URL=URL, **variables)
    app = FastAPI()
    install_requests(app, Services(settings, Probe()))

    @app.get("/")
    def root() -> str:
        return "root"

    @app.post("/things", status_code=201)
    def make(response: Response) -> None:
        response.headers["Location"] = "/things/1"
        response.headers["Link"] = '</things?page=2>; rel="next", <https://example.org/>; rel="help"'

    @app.get("/things/{name}")
    def show(name: str) -> str:
        return name

    @app.get("/large")
    def large(size: int) -> Response:
        return Response(b"a" * size, media_type="text/plain")

    @app.get("/events")
    def events() -> StreamingResponse:
        return StreamingResponse((f"data: {n}\n\n" for n in range(10**9)), media_type="text/event-stream")

    @app.get("/rows")
    def rows() -> StreamingResponse:
        return StreamingResponse((f"{n}\n" for n in range(1000)), media_type="text/csv")

    return app


def ask(event: Event, **variables: str) -> Answer:
    """The answer of Lambda's handler, its headers by their names in lower case."""
    handler = adapted(application(**variables))
    try:
        answer = handler(event, Context())  # type: ignore[arg-type]  # a runtime's own class
    finally:
        asyncio.get_event_loop().close()
    lists = {name.lower(): values[0] for name, values in (answer.get("multiValueHeaders") or {}).items()}
    headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
    return {**answer, "headers": lists | headers}


def named_stage(request: Request) -> Event:
    """An HTTP API with a stage of its own, which the path begins with."""
    event = http_api(Request(**{**vars(request), "path": f"/prod{request.path}"}))
    event["requestContext"]["stage"] = "prod"
    return event


def payload_1(request: Request) -> Event:
    """An HTTP API with a stage, in the older payload."""
    event = rest_api(request) | {"version": "1.0", "path": f"/prod{request.path}", "resource": "$default"}
    return event | {"pathParameters": None}


def base_path(request: Request) -> Event:
    """A REST API behind a custom domain, of which it has the base path `v1`."""
    event = rest_api(request) | {"path": f"/v1{request.path}"}
    event["requestContext"]["path"] = f"/v1{request.path}"
    return event


def two_levels(request: Request) -> Event:
    """The same with a base path of two segments, and the stage chosen by the client."""
    event = rest_api(request) | {"path": f"/team/v1/prod{request.path}"}
    event["requestContext"]["path"] = f"/team/v1/prod{request.path}"
    return event


PREFIXED: dict[str, tuple[Callable[[Request], Event], str]] = {
    "HTTP API, named stage": (named_stage, "/prod"),
    "HTTP API, named stage, payload 1.0": (payload_1, "/prod"),
    "REST API, stage": (rest_api, "/prod"),
    "REST API, base path": (base_path, "/v1"),
    "REST API, base path of two segments and stage": (two_levels, "/team/v1/prod"),
}


@pytest.mark.parametrize(("event", "prefix"), PREFIXED.values(), ids=PREFIXED)
def test_api_gateways_prefix_is_stripped_and_kept_in_links(
    event: Callable[[Request], Event], prefix: str
) -> None:
    """Routes are found behind the prefix that the event shows; documentation and links stand below it."""
    assert ask(event(Request("GET", "/things/caf%C3%A9%20au%20lait")))["body"] == '"café au lait"'
    assert ask(event(Request("GET", "/")))["body"] == '"root"'
    assert f'"{prefix}/openapi.json"' in ask(event(Request("GET", "/docs")))["body"].replace("'", '"')
    assert f'"servers":[{{"url":"{prefix}"}}]' in ask(event(Request("GET", "/openapi.json")))["body"]
    made = ask(event(Request("POST", "/things")))
    assert made["headers"]["location"] == f"{prefix}/things/1"
    assert made["headers"]["link"].startswith(f'<{prefix}/things?page=2>; rel="next", <https://example.org/>')
    assert '"instance":"/nowhere"' in ask(event(Request("GET", "/nowhere")))["body"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kept", [True, False], ids=["left in the path", "removed by the proxy"])
def test_a_prefix_that_no_event_shows_is_a_setting(shape: str, *, kept: bool) -> None:
    """A load balancer's path, or a proxy in front: ROOT_PATH names it, wherever it is removed."""
    path = "/shop/api" if kept else ""
    event = SHAPES[shape]
    assert ask(event(Request("GET", f"{path}/things/7")), ROOT_PATH="/shop/api")["body"] == '"7"'
    made = ask(event(Request("POST", f"{path}/things")), ROOT_PATH="/shop/api")
    assert made["headers"]["location"] == "/shop/api/things/1"


@pytest.mark.parametrize("path", ["/shop/things/7", "/things/7"])
def test_the_setting_works_on_a_server_too(path: str) -> None:
    """Behind any proxy the prefix may arrive or not; the documentation asks for its document below it."""
    client = TestClient(application(ROOT_PATH="/shop"))
    assert client.get(path).json() == "7"
    assert "/shop/openapi.json" in client.get("/docs").text
    assert client.get("/shop").json() == client.get("/shop/").json() == "root"
    assert client.get("/shopping").status_code == 404


def test_a_path_that_only_begins_like_the_stage_is_left() -> None:
    """A stage is a whole segment."""
    event = http_api(Request("GET", "/things/7"))
    event["requestContext"]["stage"] = "thing"
    assert ask(event)["body"] == '"7"'


ODD_PATHS = (
    *(
        "",
        "//",
        "//evil.example/",
        "//evil.example/things/7/",
        "/%2Fevil.example/",
        "/things//7",
        "/%2e%2e/x",
    ),
    *("/prod", "/prod/prod", "/prod%2Fthings", "/%zz", "/a%00b", "/a%0d%0ab", "/\ud800", "/things/7/"),
)


@pytest.mark.parametrize("path", ODD_PATHS)
@pytest.mark.parametrize("event", [*SHAPES.values(), *(event for event, _ in PREFIXED.values())])
def test_no_path_fails_an_invocation_or_leads_elsewhere(event: Callable[[Request], Event], path: str) -> None:
    """Whatever slashes and escapes it has, the answer is no 5xx, and a redirect stays on this host."""
    answer = ask(event(Request("GET", path)))
    assert answer["statusCode"] < 500
    location = answer["headers"].get("location", "")
    assert not location.startswith("//")
    assert urlsplit(location).hostname in {None, "api.example.com"}


@pytest.mark.parametrize("event", [http_api, rest_api, named_stage, base_path])
def test_two_slashes_at_the_beginning_are_the_paths_own(event: Callable[[Request], Event]) -> None:
    """They are no prefix: what no route matches is not found, as on every other platform."""
    assert ask(event(Request("GET", "//things/7")))["statusCode"] == 404


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "host", ["[2001:db8::1]", "[2001:db8::1]:443", "a:b:c", "a:", "[::1", "", ":443", "a b"]
)
def test_any_host_is_answered(shape: str, host: str) -> None:
    """Clients may ask by an IPv6 address, or claim any name; no invocation fails and no answer is a 5xx."""
    request = Request("GET", "/things/7", headers={"host": host})
    assert ask(SHAPES[shape](request))["statusCode"] == 200
    assert ask(SHAPES[shape](Request("GET", "/docs", headers={"host": host})))["statusCode"] == 200


@pytest.mark.parametrize("shape", SHAPES)
def test_a_port_that_is_none_is_answered(shape: str) -> None:
    """A proxy's port in its headers stops nothing."""
    request = Request("GET", "/things/7", headers={"x-forwarded-port": "https"})
    assert ask(SHAPES[shape](request))["statusCode"] == 200


@pytest.mark.parametrize("shape", SHAPES)
def test_head_is_answered_wherever_get_is(shape: str) -> None:
    """The same headers and no body, for every route, an unknown path and a stream without an end."""
    for path in ("/things/7", "/health/live", "/docs", "/nowhere"):
        event = SHAPES[shape]
        got, head = ask(event(Request("GET", path))), ask(event(Request("HEAD", path)))
        volatile = ("x-request-id", "x-process-time", "server-timing")
        for answer in (got, head):
            for name in volatile:
                answer["headers"].pop(name, None)
        assert head["body"] == ""
        assert (head["statusCode"], head["headers"]) == (got["statusCode"], got["headers"])
    assert ask(SHAPES[shape](Request("HEAD", "/things")))["statusCode"] == 405


def test_head_ends_a_stream_at_once() -> None:
    """A HEAD of a stream without an end is answered, on a server too."""
    answer = TestClient(application()).head("/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_refused_method_names_head() -> None:
    """The methods of a 405 are those that work."""
    answer = TestClient(application()).delete("/things/7")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_response_that_is_too_large_is_a_problem(shape: str) -> None:
    """Responses that the platform would reject are refused here, in the form of every other error."""
    event = SHAPES[shape]
    size = LARGE.get(shape, 6_000_000)
    assert ask(event(Request("GET", "/large", (("size", str(size)),))))["statusCode"] == 200
    refused = ask(event(Request("GET", "/large", (("size", str(size + 300_000)),))))
    assert (refused["statusCode"], refused["headers"]["content-type"]) == (500, "application/problem+json")
    assert "larger than this platform passes on" in refused["body"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_buffered_entrypoint_refuses_events_and_answers_a_stream_that_ends(shape: str) -> None:
    """A stream of events is refused at once, with where to serve it; rows that end come as a whole."""
    refused = ask(SHAPES[shape](Request("GET", "/events")))
    assert refused["statusCode"] == 501
    assert "hands each response over as a whole" in refused["body"]
    rows = ask(SHAPES[shape](Request("GET", "/rows")))
    assert (rows["statusCode"], rows["body"].count("\n")) == (200, 1000)
