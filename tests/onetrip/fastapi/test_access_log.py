"""Each request is one line of the log: what it was and took, never what it said."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from lib.onetrip.aws.cloudwatch import metrics_of
from lib.onetrip.observability import json_log
from lib.onetrip.observability.json_log import JSONLine
from lib.onetrip.pool.database import Database
from tests.onetrip.application import create_app
from tests.onetrip.fastapi.emf_schema import EMF_SCHEMA
from tests.onetrip.fastapi.faulty import served_faulty

if TYPE_CHECKING:
    from lib.onetrip.settings.settings import Settings

ONE_ROUTE = pytest.mark.parametrize("route", ["pooled"])
TOKEN = "0123456789abcdef-operator"
SECRETS = "Tr0ub4dor-in-the-path"


class _Lines(logging.Handler):
    """Keeps what would be written, with the request's ids of that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(JSONLine(lambda text: text))

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        assert "\n" not in line
        self.lines.append(json.loads(line))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The lines of the log from now on."""
    handler, logger = _Lines(), logging.getLogger("lib.onetrip")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Settings], None]]:
    """Installs the log of a process as it is deployed, until the test ends."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield json_log.install
    logging.captureWarnings(capture=False)


def test_a_request_is_one_line(client: TestClient, lines: list[dict[str, Any]]) -> None:
    """Id, route, status, and what it cost; neither path, query, body nor headers."""
    response = client.get(f"/authors/4711?x={SECRETS}", headers={"X-Token": SECRETS})
    (line,) = lines
    assert line["request_id"] == response.headers["x-request-id"]
    assert (line["event"], line["level"], line["method"]) == ("request", "info", "GET")
    assert (line["route"], line["status"]) == ("/authors/{author_id}", response.status_code)
    assert line["duration_seconds"] >= line["db_seconds"] >= 0
    assert SECRETS not in json.dumps(line)
    assert not line.keys() & {"path", "query", "body", "headers"}


def test_a_line_tells_what_the_database_cost(
    make_settings: Callable[..., Settings], lines: list[dict[str, Any]]
) -> None:
    """Round trips, their time, and the connection that the first request had to open."""
    with served_faulty(Database(make_settings(DATABASE_SINGLE_FLIGHT="on"))) as client:
        assert [client.get("/faults/read").status_code for _ in range(2)] == [200, 200]
    first, second = lines
    assert (first["round_trips"], first["connections"]) == (1, 1)
    assert (second["round_trips"], second["connections"]) == (1, 0)
    assert 0 < second["db_seconds"] < second["duration_seconds"]
    assert first["connect_seconds"] > 0 == second["connect_seconds"]


@ONE_ROUTE
@pytest.mark.parametrize("path", ["/nowhere", f"/{SECRETS}", f"/authors/1/{SECRETS}?token={SECRETS}"])
def test_a_path_without_a_route_is_not_told(
    client: TestClient, lines: list[dict[str, Any]], path: str
) -> None:
    """A typed address may hold a secret, so it is not logged."""
    assert client.get(path).status_code == 404
    (line,) = lines
    assert line["status"] == 404
    assert "route" not in line
    assert SECRETS not in json.dumps(line)


@ONE_ROUTE
def test_an_error_is_a_line_of_the_same_request(
    faulty_client: TestClient, lines: list[dict[str, Any]]
) -> None:
    """A traceback is one line, with the id and the route that the request's own line has."""
    faulty_client.get("/faults/raise")
    error, request = lines
    assert error["exception"] == "RuntimeError"
    assert error["traceback"].count("\n") > 2
    assert error["request_id"] == request["request_id"]
    assert error["route"] == request["route"] == "/faults/raise"
    assert request["status"] == 500


@ONE_ROUTE
@pytest.mark.parametrize("path", ["break-off", "fail-afterwards"])
def test_an_error_after_the_answer_has_begun_is_told(
    faulty_client: TestClient, lines: list[dict[str, Any]], path: str
) -> None:
    """A broken stream or background task has a traceback with its request's id, and counts as failed."""
    faulty_client.get(f"/faults/{path}")
    error, request = lines
    assert (error["level"], error["exception"]) == ("error", "RuntimeError")
    assert error["request_id"] == request["request_id"]
    assert error["route"] == request["route"] == f"/faults/{path}"
    assert (request["status"], request["error"]) == (200, "RuntimeError")
    assert metrics_of(request, "f")["errors"] == 1
    (shown,) = faulty_client.get("/status/data").json()["requests"]
    assert shown["status"] == 0


@ONE_ROUTE
def test_a_page_that_stands_open_fills_no_log(
    make_settings: Callable[..., Settings], lines: list[dict[str, Any]]
) -> None:
    """Polls of the status page leave no line and no metrics; refused ones leave a line."""
    app = create_app(Database(make_settings(ENVIRONMENT="production", OPS_TOKEN=TOKEN)))
    with TestClient(app) as client:
        for path in ("/status", "/status/data", "/db/pool-status"):
            assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert lines == []
        assert client.get("/status/data").status_code == 401
    assert [(line["route"], line["status"]) for line in lines] == [("/status/data", 401)]


@pytest.mark.slow
def test_the_units_tries_are_counted(
    faulty_client: TestClient,
    lines: list[dict[str, Any]],
) -> None:
    """A request whose unit of work lost against another says how often it was tried."""
    faulty_client.post("/authors", json={"name": "ada", "email": "ada@example.com"})
    lines.clear()
    faulty_client.post("/faults/lost-update")
    assert lines[-1]["route"] == "/faults/lost-update"
    assert lines[-1]["tries"] > 1


def _asked(app: Any, headers: list[tuple[bytes, bytes]], **scope: object) -> dict[str, str]:
    """The headers of an answer to `/health/live`, asked as a platform does."""
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    asked = {"type": "http", "method": "GET", "path": "/health/live", "query_string": b"", "headers": headers}
    anyio.run(app, {**asked, **scope}, receive, send)
    return {name.decode(): value.decode() for name, value in messages[0]["headers"]}


@ONE_ROUTE
def test_a_request_on_lambda_is_a_set_of_metrics(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    """The line names Lambda's request id, and is in CloudWatch's embedded metric format."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api-function")
    context = SimpleNamespace(aws_request_id="8f5-17", get_remaining_time_in_millis=lambda: 5000)
    app = create_app(Database(make_settings()))
    _asked(app, [], **{"aws.context": context})
    (line,) = lines
    assert line["lambda_request_id"] == "8f5-17"
    jsonschema_rs.validate(EMF_SCHEMA, line)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    for name in [metric["Name"] for metric in directive["Metrics"]]:
        assert isinstance(line[name], int | float)
    assert [line[name] for (name,) in directive["Dimensions"]] == ["api-function"]


@ONE_ROUTE
@pytest.mark.parametrize("function", [None, "api-function"])
def test_the_line_is_what_the_formatter_makes_of_its_record(
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    installed: Callable[[Settings], None],
    function: str | None,
) -> None:
    """A request's line is written without a record where no handler reads records; it is the same text."""
    if function:
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", function)
    app = create_app(Database(make_settings(OPS_TOKEN=TOKEN, ENVIRONMENT="production")))
    own = logging.getLogger("lib.onetrip")
    installed(app.state.onetrip.settings)
    # A process's first request says that it is the first.
    _asked(app, [])
    capsys.readouterr()
    texts = []
    for handlers in ([], [logging.NullHandler()]):
        monkeypatch.setattr(own, "handlers", handlers)
        for path in ("/health/live", "/nowhere", "/status"):
            _asked(app, [(b"x-request-id", b"seven")], path=path)
        texts.append(capsys.readouterr().out)
    plain, recorded = (re.sub(r"\d[-0-9.:T+e]*", "0", text) for text in texts)
    assert plain == recorded
    assert [json.loads(line)["request_id"] for line in plain.splitlines()] == ["seven"] * 3


@ONE_ROUTE
def test_a_line_with_a_secret_is_cleaned(
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    installed: Callable[[Settings], None],
) -> None:
    """A client that sends the operators' token as its request id finds it in no log."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api-function")
    app = create_app(Database(make_settings(OPS_TOKEN=TOKEN)))
    installed(app.state.onetrip.settings)
    _asked(app, [(b"x-request-id", TOKEN.encode())])
    out = capsys.readouterr().out
    assert '"event": "request"' in out
    assert TOKEN not in out


def test_what_is_no_embedded_metric_is_refused() -> None:
    """The schema above can fail: on a unit that CloudWatch does not know, and without a dimension."""
    metric = {"Name": "n", "Unit": "Fortnights"}
    directive: dict[str, Any] = {"Namespace": "N", "Dimensions": [["d"]], "Metrics": [metric]}
    line = {"_aws": {"Timestamp": 1, "CloudWatchMetrics": [directive]}}
    assert not jsonschema_rs.is_valid(EMF_SCHEMA, line)
    metric["Unit"] = "Seconds"
    assert jsonschema_rs.is_valid(EMF_SCHEMA, line)
    directive["Dimensions"] = [[]]
    assert not jsonschema_rs.is_valid(EMF_SCHEMA, line)


@ONE_ROUTE
@pytest.mark.parametrize(
    ("given", "told"), [(b"iad1::iad1::abc-17", "iad1::iad1::abc-17"), (b'x"\n{', None), (b"", None)]
)
def test_a_request_on_vercel_has_its_id(
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    lines: list[dict[str, Any]],
    given: bytes,
    told: str | None,
) -> None:
    """Vercel's own id is told if it is one."""
    monkeypatch.setenv("VERCEL", "1")
    _asked(create_app(Database(make_settings())), [(b"x-vercel-id", given)])
    assert lines[0].get("vercel_id") == told


@ONE_ROUTE
@pytest.mark.parametrize(
    ("environment", "authorization", "told"),
    [
        ("development", None, True),
        ("production", None, False),
        ("production", "Bearer another-token-entirely", False),
        ("production", f"Bearer {TOKEN}", True),
    ],
)
def test_strangers_are_not_told_where_the_time_went(
    make_settings: Callable[..., Settings], environment: str, authorization: str | None, *, told: bool
) -> None:
    """Everyone gets the time that they could measure themselves; its parts are for operators."""
    app = create_app(Database(make_settings(ENVIRONMENT=environment, OPS_TOKEN=TOKEN)))
    headers = [(b"authorization", authorization.encode())] if authorization else []
    answer = _asked(app, headers)
    assert re.fullmatch(r"\d+\.\d{6}", answer["x-process-time"])
    assert ("server-timing" in answer) == told


def test_the_parts_of_the_time_are_in_server_timing(faulty_client: TestClient) -> None:
    """Total, database, pool and connect in milliseconds, as browsers draw them."""
    faulty_client.get("/faults/read")
    timing = faulty_client.get("/faults/read").headers["server-timing"]
    parts = dict(re.findall(r"(\w+);dur=(\d+\.\d{3})", timing))
    assert [*parts] == ["total", "db", "pool", "connect"]
    assert float(parts["total"]) > float(parts["db"]) > float(parts["connect"]) == 0
    assert 'desc="round trips: ' in timing
