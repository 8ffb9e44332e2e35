"""Liveness, readiness and cold start: true, cheap, and without details for unauthenticated clients."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from lib.onetrip.cold_start import PHASES, ColdStart
from lib.onetrip.deadlines import current_deadline
from lib.onetrip.health import probe as health
from lib.onetrip.pool.database import Database
from lib.onetrip.process import process
from lib.onetrip.settings.settings import environment_with
from lib.onetrip.testing.databases import free_port
from lib.onetrip.testing.postgres import LocalPostgres
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip import pgbouncer
from tests.onetrip.application import NAME, VERSION, create_app
from tests.onetrip.assertions import assert_problem
from tests.onetrip.environment import PROJECT
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import until
from tests.onetrip.servers import Servers
from tests.onetrip.tables import REVISIONS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lib.onetrip.settings.settings import Settings

PATHS = ("/health/ready", "/health/db", "/health", "/health/cold-start")
MORE_THAN_WORKERS = 45
TOKEN = "0123456789abcdef-operator"
SECRET = "hunter2secret"


class _Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(app: FastAPI, database: Database) -> _Clock:
    """The clock by which the application's probe keeps its report."""
    clock = _Clock()
    app.state.onetrip.probe = health.Probe(database, clock, REVISIONS)
    return clock


@pytest.fixture
def queries(database: Database) -> list[str]:
    """The statements that the application sends from now on."""
    sent: list[str] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda _c, _k, statement, *_: sent.append(statement)
    )
    return sent


@contextmanager
def _served(settings: Settings) -> Iterator[TestClient]:
    """A client of an application on `settings`."""
    database = Database(settings)
    with TestClient(create_app(database), raise_server_exceptions=False) as client:
        yield client
    database.close()


@pytest.fixture
def unreachable(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a closed port and short timeouts."""
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.1)
    url = f"postgresql://secretuser:{SECRET}@127.0.0.1:{free_port()}/secretname"
    return make_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url)


@pytest.fixture(scope="module")
def sleeping_server() -> Iterator[LocalPostgres]:
    """A real server that answers every login with "not yet" (57P03): a standby that takes no questions."""
    folder = Path(tempfile.mkdtemp(prefix="onetrip-"))
    folder.chmod(0o755)
    try:
        server = LocalPostgres(folder / "postgres", port=free_port())
        server.start()
        server.stop()
        signal = folder / "postgres" / "data" / "standby.signal"
        signal.touch()
        if server.process_user:
            os.chown(signal, pwd.getpwnam(server.process_user).pw_uid, -1)
        server = dataclasses.replace(server, settings={"hot_standby": "off"})
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def sleeping(
    sleeping_server: LocalPostgres, make_settings: Callable[..., Settings], route: str
) -> Iterator[Settings]:
    """Settings on the sleeping server, directly and through a pooler."""
    direct = DatabaseURL(user="postgres", host="127.0.0.1", port=sleeping_server.port, database="postgres")
    if route == "direct":
        yield make_settings(DATABASE_URL_UNPOOLED=direct.render())
        return
    folder = Path(tempfile.mkdtemp(prefix="onetrip-"))
    folder.chmod(0o755)
    try:
        server = DatabaseURL(host="127.0.0.1", port=sleeping_server.port)
        with pgbouncer.running(pgbouncer.PgBouncer(folder / "pgbouncer", free_port(), server)) as pooler:
            yield make_settings(DATABASE_URL=pooler.url().render())
    finally:
        shutil.rmtree(folder)


def test_alive_without_a_database(unreachable: Settings) -> None:
    """`live` says that the process answers: it works without a server, and makes no engine."""
    database = Database(unreachable)
    with TestClient(create_app(database)) as client:
        response = client.get("/health/live")
        assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert not {"engine", "async_engine", "reading_engine", "async_reading_engine"} & database.__dict__.keys()


def test_ready_when_the_database_answers(client: TestClient, queries: list[str]) -> None:
    """200 means that a query was answered, not that there are settings."""
    response = client.get("/health/ready")
    assert (response.status_code, response.json()) == (
        200,
        {"status": "ready", "checks": {"database": "ok", "schema": "current"}},
    )
    assert len(queries) == 1


@pytest.mark.parametrize(
    ("change", "schema"),
    [
        ("DROP TABLE alembic_version", "behind"),
        ("DELETE FROM alembic_version", "behind"),
        ("UPDATE alembic_version SET version_num = 'newer'", "ahead"),
    ],
)
def test_ready_tells_whether_the_schema_is_behind(
    client: TestClient, servers: Servers, database_name: str, change: str, schema: str
) -> None:
    """Code that waits for its migration is not ready; one whose successor's migration ran already is."""
    servers.administer(change, database_name)
    response = client.get("/health/ready")
    checks = {"database": "ok", "schema": schema}
    if schema == "ahead":
        assert (response.status_code, response.json()) == (200, {"status": "ready", "checks": checks})
    else:
        assert assert_problem(response, 503, "not-ready")["checks"] == checks
    assert client.get("/health/db").status_code == 200
    # A database that differs by a table is not used again.
    servers.administer("DROP TABLE IF EXISTS alembic_version", database_name)


@pytest.mark.parametrize("route", ["direct"])
def test_a_role_that_may_not_see_migrations_is_ready(
    make_settings: Callable[..., Settings], servers: Servers, database_name: str
) -> None:
    """Readiness then says nothing of the schema, rather than that the database is down."""
    servers.administer("CREATE ROLE stranger LOGIN")
    url = dataclasses.replace(servers.url("direct", database_name), user="stranger").render()
    database = Database(make_settings(DATABASE_URL_UNPOOLED=url))
    with TestClient(create_app(database)) as client:
        assert client.get("/health/ready").json() == {"status": "ready", "checks": {"database": "ok"}}
    database.close()
    servers.administer("DROP ROLE stranger")


def test_the_database_s_health_says_where_and_how_fast(
    client: TestClient, database: Database, route: str
) -> None:
    """Milliseconds, the way that is used, and the server's own version."""
    with psycopg.connect(database.url.render(hide_password=False)) as connection:
        (version,) = connection.execute(b"SHOW server_version").fetchone() or ("",)
    found = client.get("/health/db").json()
    assert found.pop("latency_ms") > 0
    assert found == {
        "status": "healthy",
        "database": "postgresql",
        "mode": route,
        "server_version": version.split()[0],
    }


def test_the_summary_names_the_application_and_its_database(client: TestClient) -> None:
    """One look: the application, its version, and how its database is."""
    found = client.get("/health").json()
    assert found["database"].pop("latency_ms") > 0
    assert found == {
        "status": "healthy",
        "app": NAME,
        "version": VERSION,
        "database": {"status": "ready"},
    }


def test_a_report_is_kept_for_a_second(client: TestClient, clock: _Clock, queries: list[str]) -> None:
    """Any number of probes by any route costs the database one query a second."""
    for path in PATHS * 2:
        assert client.get(path).status_code == 200
    assert len(queries) == 1
    clock.now += 0.999
    client.get("/health/ready")
    assert len(queries) == 1
    clock.now += 0.001
    client.get("/health/ready")
    assert len(queries) == 2


@pytest.mark.usefixtures("clock")
def test_those_who_ask_together_share_one_query(client: TestClient, queries: list[str]) -> None:
    """Many load balancers are no load."""
    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(lambda _: client.get("/health/ready").status_code, range(24)))
    assert answers == [200] * 24
    assert len(queries) == 1


def test_many_checks_at_once_hold_up_nobody(app: FastAPI, database: Database) -> None:
    """While more checks than there are worker threads wait for a connection, other requests are answered."""
    app.get("/plain")(lambda: "answered")
    answered: list[str] = []

    def ask(path: str) -> None:
        client.get(path)
        answered.append(path)

    with ExitStack() as held, ThreadPoolExecutor(MORE_THAN_WORKERS + 1) as threads, TestClient(app) as client:
        for _ in range(database.capacity):
            held.enter_context(database.engine.connect())
        list(threads.map(client.get, ["/health/live"] * MORE_THAN_WORKERS))
        checks = [threads.submit(ask, "/health/ready") for _ in range(MORE_THAN_WORKERS)]
        until(lambda: app.state.onetrip.probe._running is not None)  # noqa: SLF001  (nothing else tells)
        threads.submit(ask, "/plain").result()
        for check in checks:
            check.result()
    assert answered[0] == "/plain"
    assert len(answered) == MORE_THAN_WORKERS + 1


@pytest.mark.parametrize("fault", ["down", "silence"])
def test_ready_again_as_soon_as_the_database_is(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Lost or gone silent it is down; a failure is kept no longer than a success."""
    url = make_settings().application_url
    with Proxy((str(url.host), int(url.port or 0))).running() as proxy:
        near = dataclasses.replace(url, port=proxy.port).render()
        database = Database(make_settings(DATABASE_URL=near, DATABASE_URL_UNPOOLED=near))
        app, clock = create_app(database), _Clock()
        app.state.onetrip.probe = health.Probe(database, clock, REVISIONS)
        with TestClient(app) as client:
            assert client.get("/health/ready").status_code == 200
            with getattr(proxy, fault)(), monkeypatch.context() as impatient:
                impatient.setattr(health, "PROBE_SECONDS", 0.2)
                proxy.reset() if fault == "down" else None
                clock.now += 1
                assert [client.get("/health/ready").status_code for _ in range(2)] == [503, 503]
            assert client.get("/health/ready").status_code == 503
            clock.now += 1
            assert client.get("/health/ready").status_code == 200
        database.close()


def test_a_probe_has_a_deadline_of_its_own(client: TestClient, database: Database) -> None:
    """The probe's waits end after its own two seconds, even if the request has more time."""
    left: list[float] = []

    def note(*_: object) -> None:
        deadline = current_deadline()
        left.append(deadline.seconds_left if deadline else float("inf"))

    event.listen(database.engine, "do_connect", note)
    event.listen(database.engine, "before_cursor_execute", note)
    assert client.get("/health/ready").status_code == 200
    assert len(left) >= 1
    assert max(left) <= health.PROBE_SECONDS


def _assert_down(client: TestClient, status: str, *unspoken: object) -> None:
    ready = client.get("/health/ready")
    assert assert_problem(ready, 503, "not-ready")["checks"] == {"database": status}
    found = client.get("/health/db")
    assert "checks" not in assert_problem(found, 503, f"database-{status}")
    for response in (ready, found):
        assert response.headers["retry-after"] == "2"
    summary = client.get("/health")
    assert summary.status_code == 200
    assert summary.json() == {
        "status": "degraded",
        "app": NAME,
        "version": VERSION,
        "database": {"status": status, "latency_ms": None},
    }
    started = client.get("/health/cold-start")
    assert (started.status_code, started.json()["database"]) == (200, status)
    for response in (ready, found, summary, started):
        said = f"{response.text} {response.headers}".lower()
        for word in ("127.0.0.1", "localhost", "psycopg", "refused", "fatal", "standby", *unspoken):
            assert str(word) not in said


def test_down_when_nobody_listens(unreachable: Settings) -> None:
    """503, and no host, no port, no name, no password, no word of the driver's."""
    url = unreachable.application_url
    with _served(unreachable) as client:
        _assert_down(client, "down", url.port, SECRET, "secretuser", "secretname")


def test_a_failed_connect_is_not_taken_for_the_first(unreachable: Settings, fresh: ColdStart) -> None:
    """A start is measured by what succeeded; the time of a refusal would flatter it."""
    with _served(unreachable) as client:
        assert client.get("/health/cold-start").json()["phases_ms"] == dict.fromkeys(PHASES)
        assert fresh.phases_ms == {}


@pytest.mark.slow
def test_waking_while_the_server_starts_up(sleeping: Settings) -> None:
    """A server that says "not yet" is waking rather than down: a client may want to wait."""
    with _served(sleeping) as client:
        _assert_down(client, "waking", sleeping.application_url.port)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> ColdStart:
    """A process that has served nothing yet."""
    monkeypatch.setattr(process, "cold_start", ColdStart())
    return process.cold_start


@pytest.mark.usefixtures("fresh")
def test_the_first_request_is_told_from_the_others(client: TestClient) -> None:
    """Only one request of a process is the first; each later one sees how many there were."""
    found = [client.get("/health/cold-start").json() for _ in range(3)]
    assert [answer["first_request"] for answer in found] == [True, False, False]
    assert [answer["requests"] for answer in found] == [1, 2, 3]


@pytest.mark.usefixtures("fresh")
def test_the_phases_of_a_start_are_timed_once(client: TestClient, clock: _Clock) -> None:
    """Later probes do not change what the first connection and query took."""
    first = client.get("/health/cold-start").json()["phases_ms"]
    assert {name for name, milliseconds in first.items() if milliseconds} == {"connect", "first_query"}
    clock.now += 1
    assert client.get("/health/cold-start").json()["phases_ms"] == first


MEASURE = """
from lib.onetrip.connection import early
early.FRESH_SECONDS = 60.0  # a busy machine imports slowly
from tests.onetrip.entrypoint import app
from fastapi.testclient import TestClient
with TestClient(app) as client:
    print(client.get("/health/cold-start").text)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "variables", "connects_early"),
    [
        ("server", {}, False),
        ("vercel", {"VERCEL": "1", "VERCEL_ENV": "development"}, True),
        ("lambda", {"AWS_LAMBDA_FUNCTION_NAME": "api", "ENVIRONMENT": "development"}, True),
    ],
)
def test_a_fresh_process_measures_its_own_start(
    make_settings: Callable[..., Settings],
    route: str,
    platform: str,
    variables: dict[str, str],
    *,
    connects_early: bool,
) -> None:
    """The first answer of a new process has every phase, and says whether it connected while importing."""
    settings = make_settings()
    environment = environment_with(
        DATABASE_URL=settings.pooled_url.render(hide_password=False),
        DATABASE_URL_UNPOOLED=settings.direct_url.render(hide_password=False),
        DATABASE_MODE=route,
        **variables,
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    # Above it stands the log.
    found = json.loads(done.stdout.splitlines()[-1])
    phases = found["phases_ms"]
    assert phases.pop("secret") is None
    assert phases.keys() > {"settings", "imports", "application", "preparation", "connect", "first_query"}
    assert min(phases.values()) > 0
    early = found["early_connection"]
    assert (early["begun"], early["used"]) == (connects_early, connects_early)
    assert bool(early["handshake_ms"]) == connects_early
    assert found["initialized_at"].endswith("+00:00")
    assert (found["first_request"], found["requests"], found["database"]) == (True, 1, "ready")
    assert (found["platform"], found["region"], found["memory_mb"]) == (platform, None, None)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def _details(client: TestClient, authorization: str | None) -> set[str]:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return set(client.get("/health/cold-start", headers=headers).json())


STRANGERS = (
    None,
    "",
    TOKEN,
    "Bearer",
    "Bearer ",
    "Bearer None",
    "Bearer ä",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Basic {TOKEN}",
)


def test_in_production_only_the_operator_sees_how_it_started(make_settings: Callable[..., Settings]) -> None:
    """With the token all details are there; without it, or with another, only what anyone may know."""
    with _served(make_settings(ENVIRONMENT="production", OPS_TOKEN=TOKEN)) as client:
        details = _details(client, f"Bearer {TOKEN}")
        assert details > {
            "phases_ms",
            "early_connection",
            "platform",
            "python",
            "initialized_at",
            "requests",
            "memory_mb",
        }
        for authorization in STRANGERS:
            assert _details(client, authorization) == {"first_request", "database"}, authorization


def test_in_production_without_a_token_everyone_is_a_stranger(make_settings: Callable[..., Settings]) -> None:
    """No token set means closed, not open."""
    with _served(make_settings(ENVIRONMENT="production")) as client:
        for authorization in STRANGERS:
            assert _details(client, authorization) == {"first_request", "database"}, authorization


@pytest.mark.parametrize("environment", ["development", "preview"])
def test_outside_production_everyone_sees_how_it_started(
    make_settings: Callable[..., Settings], environment: str
) -> None:
    """In development no token is needed."""
    with _served(make_settings(ENVIRONMENT=environment)) as client:
        assert "phases_ms" in _details(client, None)


@pytest.mark.parametrize("route", ["pooled"])
def test_in_production_the_description_is_closed(make_settings: Callable[..., Settings]) -> None:
    """There the description of the API is 404, even with the token."""
    with _served(make_settings(ENVIRONMENT="production", OPS_TOKEN=TOKEN)) as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"):
            for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
                assert_problem(client.get(path, headers=headers), 404)


def test_a_monitor_may_ask_by_head(client: TestClient) -> None:
    """HEAD on the live probe is answered like GET, without a body."""
    response = client.head("/health/live")
    assert (response.status_code, response.content) == (200, b"")
