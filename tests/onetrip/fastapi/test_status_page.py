"""The status page is for operators, tells what is so, and may do nothing but what it does."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from lib.onetrip.cold_start import ColdStart
from lib.onetrip.health import probe as health
from lib.onetrip.observability.recent_requests import RecentRequest, RecentRequests
from lib.onetrip.pool.database import Database
from lib.onetrip.process import process
from lib.onetrip.testing.databases import free_port
from tests.onetrip.application import create_app
from tests.onetrip.assertions import assert_problem
from tests.onetrip.environment import SINGLE_FLIGHT

if TYPE_CHECKING:
    from lib.onetrip.settings.settings import Settings

TOKEN = "0123456789abcdef-operator"
BASIC = f"Basic {b64encode(f'me:{TOKEN}'.encode()).decode()}"
SECRET = "hunter2secret"
ONE_ROUTE = pytest.mark.parametrize("route", ["pooled"])


@contextmanager
def _served(settings: Settings) -> Iterator[TestClient]:
    database = Database(settings)
    with TestClient(create_app(database)) as client:
        yield client
    database.close()


def _warnings(client: TestClient) -> dict[str, str]:
    found = client.get("/status/data?ask=true").json()["warnings"]
    assert all(warning["remedy"] for warning in found)
    return {warning["what"]: warning["remedy"] for warning in found}


@ONE_ROUTE
@pytest.mark.parametrize("path", ["/status", "/status/data"])
def test_in_production_the_page_is_for_operators(make_settings: Callable[..., Settings], path: str) -> None:
    """A browser asks for the token as for a password; without a token there is no page."""
    with _served(make_settings(ENVIRONMENT="production", OPS_TOKEN=TOKEN)) as client:
        refusal = client.get(path)
        assert_problem(refusal, 401)
        assert refusal.headers["www-authenticate"].startswith("Basic ")
        assert client.get(path, headers={"Authorization": BASIC}).status_code == 200
    with _served(make_settings(ENVIRONMENT="production")) as client:
        assert_problem(client.get(path, headers={"Authorization": BASIC}), 404)


@ONE_ROUTE
def test_the_page_may_run_nothing_but_its_own(client: TestClient) -> None:
    """One style and one script, each by its hash; nothing from elsewhere, nothing inline, no frame."""
    response = client.get("/status")
    page, policy = response.text, response.headers["content-security-policy"]
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"https?://(?!www\.w3\.org/)", page) == []
    assert re.findall(r"\s(?:on\w+|style)\s*=\s*[\"']|innerHTML|eval\(", page) == []
    assert response.headers["cache-control"] == "no-store"


def test_the_page_is_told_what_was_asked_of_this_process(client: TestClient) -> None:
    """Each request once, by its route, with what it took; those that only look are left out."""
    assert client.get("/health/db?x=1").status_code == 200
    assert client.get(f"/{SECRET}").status_code == 404
    client.get("/db/pool-status")
    client.get("/status")
    found = client.get("/status/data").json()
    first, second = found["requests"]
    assert (first["method"], first["route"], first["status"]) == ("GET", "/health/db", 200)
    assert first["ms"] >= first["db_ms"] > 0 < first["trips"]
    assert (second["route"], second["status"], second["trips"]) == ("(no route)", 404, 0)
    assert client.get(f"/status/data?since={first['number']}").json()["requests"] == [second]
    assert SECRET not in str(found)


def test_requests_that_overlap_are_told_apart(client: TestClient) -> None:
    """Each has a number of its own, so that none is taken for another that ended meanwhile."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get("/health/db"), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    numbers = [request["number"] for request in client.get("/status/data").json()["requests"]]
    assert numbers == list(range(1, 25))


def test_only_the_last_requests_are_kept() -> None:
    """A process that lives long does not remember more and more."""
    recent = RecentRequests(kept=3)
    for number in range(200, 210):
        recent.add(RecentRequest(0.0, "GET", "/", number, 0.1, 0.0, 0))
    assert [(number, request.status) for number, request in recent.since(0)] == [
        (8, 207),
        (9, 208),
        (10, 209),
    ]


def test_the_database_is_asked_only_when_it_is_wanted(client: TestClient, database: Database) -> None:
    """A page that stands open does not keep a compute awake."""
    assert client.get("/status/data").json()["database"] is None
    assert database.pool_state.total == 0
    found = client.get("/status/data?ask=true").json()
    assert (found["database"]["status"], found["database"]["schema"]) == ("ready", "current")
    slower = {"what": "Every transaction costs more round trips than it needs."}
    assert [{"what": warning["what"]} for warning in found["warnings"]] == [slower] * (SINGLE_FLIGHT == "off")
    assert found["app"]["mode"] == database.settings.mode


def test_a_schema_that_is_behind_is_a_warning(client: TestClient, database: Database) -> None:
    """The last finding stays on the page, with its remedy."""
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'unknown'"))
    assert "Deploy" in _warnings(client)["The schema is ahead of this code."]
    assert client.get("/status/data").json()["warnings"]
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))


def test_a_database_that_is_down_is_a_warning(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page itself answers, and names neither host nor user."""
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.1)
    url = f"postgresql://canary-user:{SECRET}@127.0.0.1:{free_port()}/canary-name"
    with _served(make_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url)) as client:
        response = client.get("/status/data?ask=true")
        assert "The database does not answer." in _warnings(client)
    assert response.json()["database"]["status"] == "down"
    assert not {word for word in ("canary", SECRET, "127.0.0.1") if word in response.text}


@ONE_ROUTE
def test_a_process_without_a_free_connection_does_not_blame_the_database(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that could not be queried is reported as such, not as down."""
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.3)
    settings = make_settings(DATABASE_POOL_SIZE="1", DATABASE_MAX_OVERFLOW="0", DATABASE_POOL_TIMEOUT="1")
    with _served(settings) as client:
        database: Database = client.app.state.onetrip.database  # type: ignore[attr-defined]
        with database.engine.connect():
            found = client.get("/status/data?ask=true").json()
        assert found["database"]["status"] == "busy"
        assert any(warning["what"].startswith("Every connection") for warning in found["warnings"])


@pytest.mark.slow
@ONE_ROUTE
def test_the_log_says_why_the_database_does_not_answer(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, however often it is asked, with the driver's reason; requests that fail have it too."""
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(health, "CACHE_SECONDS", 0.0)
    url = f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d"
    settings = make_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url, REQUEST_TIMEOUT_SECONDS="1")
    with _served(settings) as client:
        probe: health.Probe = client.app.state.onetrip.probe  # type: ignore[attr-defined]
        assert {probe.report().status, client.get("/health/ready").json()["checks"]["database"]} == {"down"}
        assert [probe.report().status for _ in range(2)] == ["down"] * 2
        (line,) = [
            record.getMessage() for record in caplog.records if record.name == "lib.onetrip.health.probe"
        ]
        assert line.startswith("the database is down: ")
        assert "refused" in line
        author = {"name": SECRET, "email": "ada@example.com"}
        assert client.post("/authors", json=author).status_code == 503
    assert "refused" in next(
        r.getMessage() for r in caplog.records if r.name == "lib.onetrip.fastapi.problem_details"
    )
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({"VERCEL": "1", "DATABASE_MODE": "direct"}, "Instances multiply here, and each connects directly."),
        (
            {"DATABASE_SINGLE_FLIGHT": "off"},
            "Every transaction costs more round trips than it needs.",
        ),
        ({"DATABASE_ECHO": "true", "ENVIRONMENT": "preview"}, "Statements are logged with their data."),
    ],
)
@ONE_ROUTE
def test_a_setting_that_costs_is_a_warning(
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    what: str,
) -> None:
    """Settings other than the defaults are shown, with the way back."""
    monkeypatch.setenv("VERCEL_ENV", "preview")
    for name in variables.keys() & {"VERCEL"}:
        monkeypatch.setenv(name, variables[name])
    with _served(make_settings(**{"DATABASE_SINGLE_FLIGHT": "on", **variables})) as client:
        assert what in _warnings(client)


def test_a_connection_that_never_came_back_is_a_warning(make_settings: Callable[..., Settings]) -> None:
    """As long as it is out, the page says since when and by whom."""
    with _served(make_settings(CONNECTION_LEAK_SECONDS="0")) as client:
        database: Database = client.app.state.onetrip.database  # type: ignore[attr-defined]
        with database.engine.connect():
            (what,) = [
                what for what in _warnings(client) if what.startswith("A connection has been checked out")
            ]
            assert what.endswith("by no request.")


@ONE_ROUTE
def test_the_start_is_told_phase_by_phase(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with when it began and how long it took; what came with a request is told apart."""
    start = ColdStart()
    start.phases_ms = {"imports": 400.0, "preparation": 50.0, "first_query": 3.0}
    start.starts_ms = {"imports": 10.0, "preparation": 420.0, "first_query": 9000.0}
    monkeypatch.setattr(process, "cold_start", start)
    found: list[dict[str, Any]] = client.get("/status/data").json()["cold_start"]
    told = [(phase["name"], phase["start_ms"], phase["ms"], phase["later"]) for phase in found]
    assert [each for each in told if each[0] != "handshake"] == [
        ("imports", 10.0, 400.0, False),
        ("preparation", 420.0, 50.0, False),
        ("first query", 9000.0, 3.0, True),
    ]
