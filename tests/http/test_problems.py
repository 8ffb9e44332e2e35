"""Every error as one shape, by what really went wrong in a real database, and nothing secret in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import anyio
import psycopg
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import text

from api.application import create_app
from api.dependencies import DatabaseDep, ReadSessionDep, SessionDep
from api.platform_route import PlatformRoute
from lib.engine import Database
from lib.errors import Kind
from lib.retry import UNIT_ATTEMPTS
from tests.conftest import free_port
from tests.http.assertions import assert_problem

if TYPE_CHECKING:
    from lib.settings import Settings

# For what never asks for a connection: the way to the database makes no difference.
ONE_ROUTE = pytest.mark.parametrize("route", ["pooled"])
# The name of every table and the text of every value and message that a body could repeat.
CANARY = "canary"
FORBIDDEN = (CANARY, "psycopg", "sqlalchemy", "postgres", "127.0.0.1", "sqlstate", "traceback", "relation ")
TABLE = "CREATE TEMP TABLE canary ({}) ON COMMIT DROP"
PARENT = TABLE.format("id int PRIMARY KEY")
CHILD = "CREATE TEMP TABLE canary_child (id int REFERENCES canary {}) ON COMMIT DROP"


class Case(NamedTuple):
    """Statements of one unit of work, the last of which fails, and the answer they deserve."""

    statements: tuple[str, ...]
    status: int
    kind: Kind
    retry_after: str | None = None


CASES: dict[str, Case] = {
    "unique": Case(
        (TABLE.format("x text UNIQUE"), *["INSERT INTO canary VALUES ('canary')"] * 2),
        409,
        Kind.ALREADY_EXISTS,
    ),
    "exclusion": Case(
        (
            TABLE.format("x int4range, EXCLUDE USING gist (x WITH &&)"),
            *["INSERT INTO canary VALUES ('[1,3]')"] * 2,
        ),
        409,
        Kind.ALREADY_EXISTS,
    ),
    "missing-on-insert": Case(
        (PARENT, CHILD.format(""), "INSERT INTO canary_child VALUES (1)"), 422, Kind.MISSING_REFERENCE
    ),
    "missing-on-update": Case(
        (
            PARENT,
            CHILD.format(""),
            "INSERT INTO canary_child VALUES (NULL)",
            "UPDATE canary_child SET id = 1",
        ),
        422,
        Kind.MISSING_REFERENCE,
    ),
    "still-referenced": Case(
        (
            PARENT,
            CHILD.format(""),
            "INSERT INTO canary VALUES (1)",
            "INSERT INTO canary_child VALUES (1)",
            "DELETE FROM canary",
        ),
        409,
        Kind.STILL_REFERENCED,
    ),
    "restricted": Case(
        (
            PARENT,
            CHILD.format("ON DELETE RESTRICT"),
            "INSERT INTO canary VALUES (1)",
            "INSERT INTO canary_child VALUES (1)",
            "DELETE FROM canary",
        ),
        409,
        Kind.STILL_REFERENCED,
    ),
    "deferred-to-the-commit": Case(
        (PARENT, CHILD.format("INITIALLY DEFERRED"), "INSERT INTO canary_child VALUES (1)"),
        409,
        Kind.STILL_REFERENCED,
    ),
    "not-null": Case(
        (TABLE.format("x int NOT NULL"), "INSERT INTO canary VALUES (NULL)"), 422, Kind.INVALID_VALUE
    ),
    "check": Case(
        (TABLE.format("x int CHECK (x > 0)"), "INSERT INTO canary VALUES (0)"), 422, Kind.INVALID_VALUE
    ),
    "too-long": Case(
        (TABLE.format("x varchar(3)"), "INSERT INTO canary VALUES ('canary')"), 422, Kind.INVALID_VALUE
    ),
    "out-of-range": Case(("SELECT 2147483647::int + 1",), 422, Kind.INVALID_VALUE),
    "no-such-day": Case(("SELECT '2030-02-30'::date",), 422, Kind.INVALID_VALUE),
    "no-number": Case(("SELECT 'canary'::int",), 422, Kind.INVALID_VALUE),
    "statement-timeout": Case(
        ("SET LOCAL statement_timeout = 20", "SELECT pg_sleep(60) AS canary"), 504, Kind.TIMEOUT
    ),
    "transaction-timeout": Case(
        ("SET LOCAL transaction_timeout = 20", "SELECT pg_sleep(60) AS canary"), 504, Kind.TIMEOUT
    ),
    "lock-timeout": Case(
        ("SET LOCAL lock_timeout = 20", "SELECT pg_advisory_xact_lock(7)"), 503, Kind.BUSY, "1"
    ),
    "write-in-a-read-only-transaction": Case(
        ("SET TRANSACTION READ ONLY", "DELETE FROM tasks"), 503, Kind.READ_ONLY, "5"
    ),
    "terminated": Case(("SELECT pg_terminate_backend(pg_backend_pid())",), 503, Kind.UNAVAILABLE, "2"),
    "syntax": Case(("SELEKT canary",), 500, Kind.INTERNAL),
    "no-table": Case(("SELECT * FROM canary",), 500, Kind.INTERNAL),
    "raised": Case(("DO $$ BEGIN RAISE EXCEPTION 'canary'; END $$",), 500, Kind.INTERNAL),
}

faults = APIRouter(prefix="/faults", route_class=PlatformRoute)


@faults.post("/statements/{name}")
def run_statements(name: str, session: SessionDep) -> str:
    for statement in CASES[name].statements:
        session.execute(text(statement))
    return CANARY


@faults.get("/write-in-a-read-session")
def write_in_a_read_session(session: ReadSessionDep) -> str:
    session.execute(text("DELETE FROM tasks"))
    return CANARY


@faults.get("/nul")
def send_a_nul(session: ReadSessionDep) -> str:
    session.execute(text("SELECT cast(:x AS text)"), {"x": f"{CANARY}\x00"})
    return CANARY


@faults.get("/read")
def read(session: ReadSessionDep) -> bool:
    return session.scalar(text("SELECT 1")) == 1


@faults.post("/lost-update")
def lose_an_update(session: SessionDep, database: DatabaseDep) -> str:
    """Read a row, let a second connection change it, then change it from what was read."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    session.execute(text("SELECT username FROM users"))
    with psycopg.connect(database.url.render(hide_password=False)) as connection:
        connection.execute(b"UPDATE users SET email = email || '+'")
    session.execute(text("UPDATE users SET username = 'canary'"))
    return CANARY


class Number(BaseModel):
    number: int


def _failing_dependency() -> None:
    raise ValueError(CANARY)


@faults.get("/raise")
async def raise_an_error() -> None:
    raise RuntimeError(CANARY)


@faults.get("/raise-in-a-thread")
def raise_in_a_thread() -> None:
    raise RuntimeError(CANARY)


@faults.get("/raise-in-a-dependency")
def raise_in_a_dependency(_: Annotated[None, Depends(_failing_dependency)]) -> None: ...


@faults.get("/raise-in-a-transaction")
def raise_in_a_transaction(session: SessionDep) -> None:
    session.execute(text("SELECT 1"))
    raise KeyError(CANARY)


@faults.get("/raise-a-group")
async def raise_a_group() -> None:
    raise ExceptionGroup(CANARY, [RuntimeError(CANARY)])


@faults.get("/answer-wrongly", response_model=Number)
def answer_wrongly() -> dict[str, str]:
    return {"number": CANARY}


@faults.get("/teapot")
async def refuse() -> None:
    raise HTTPException(418, "No coffee here.", {"Retry-After": "60"})


RAISING = (
    "raise",
    "raise-in-a-thread",
    "raise-in-a-dependency",
    "raise-in-a-transaction",
    "raise-a-group",
    "answer-wrongly",
)


def _faulty(database: Database) -> FastAPI:
    app = create_app(database)
    app.include_router(faults)
    return app


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    """A client of the application with routes that fail."""
    with TestClient(_faulty(database), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def locked(database: Database) -> Iterator[None]:
    """Another connection holds the advisory lock."""
    with psycopg.connect(database.url.render(hide_password=False)) as connection:
        connection.execute(b"SELECT pg_advisory_xact_lock(7)")
        yield


def _assert_silent(response: Any, database: Database) -> None:
    said = f"{response.text} {response.headers}".lower()
    for word in (*FORBIDDEN, str(database.url.port), database.url.database):
        assert str(word) not in said


def _logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged as a warning or worse, by anyone."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("name", CASES)
def test_a_database_error_has_the_status_it_deserves(
    client: TestClient, database: Database, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By SQLSTATE: the status, `Retry-After` where waiting helps, and no word of the database's."""
    case = CASES[name]
    response = client.post(f"/faults/statements/{name}")
    kind = None if case.kind is Kind.INTERNAL else str(case.kind)
    problem = assert_problem(response, case.status, kind)
    assert response.headers.get("retry-after") == case.retry_after
    assert ("detail" in problem) == (case.kind is not Kind.INTERNAL)
    _assert_silent(response, database)
    logged = [record for record in _logged(caplog) if problem["request_id"] in record.getMessage()]
    assert len(logged) == (1 if case.status >= 500 else 0)


def test_every_kind_of_error_is_among_the_cases() -> None:
    """Only a COMMIT whose answer was lost needs a faulty network, and has its own tests."""
    tested = {case.kind for case in CASES.values()} | {Kind.CONFLICT}
    assert set(Kind) - tested == {Kind.UNKNOWN}


def test_an_update_that_loses_every_time_is_409(client: TestClient, database: Database) -> None:
    """A serialization failure is tried again, and told as a conflict when it happens each time."""
    with psycopg.connect(database.url.render(hide_password=False), autocommit=True) as connection:
        connection.execute(b"INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com')")
        response = client.post("/faults/lost-update")
        rows = connection.execute(b"SELECT username, email FROM users").fetchall()
    assert_problem(response, 409, "write-conflict")
    assert response.headers["retry-after"] == "1"
    # Every try was overtaken once, and none was stored.
    assert rows == [("ada", "ada@example.com" + "+" * UNIT_ATTEMPTS)]
    _assert_silent(response, database)


def test_a_write_in_a_read_session_is_503(client: TestClient, database: Database) -> None:
    """A database that takes no writes may take them later, so the client is told to wait."""
    response = client.get("/faults/write-in-a-read-session")
    assert_problem(response, 503, "read-only")
    assert response.headers["retry-after"] == "5"
    _assert_silent(response, database)


def test_a_value_that_the_driver_cannot_send_is_422(client: TestClient, database: Database) -> None:
    """What never reached the server has no SQLSTATE, and is the client's mistake all the same."""
    response = client.get("/faults/nul")
    assert_problem(response, 422, "invalid-value")
    _assert_silent(response, database)


def test_an_unreachable_server_is_503(make_settings: Callable[..., Settings]) -> None:
    """Nobody listens: the answer comes by the deadline, says when to try again, and names no host."""
    url = f"postgresql://{CANARY}:{CANARY}@127.0.0.1:{free_port()}/{CANARY}"
    database = Database(make_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url, REQUEST_TIMEOUT_SECONDS=1))
    with TestClient(_faulty(database), raise_server_exceptions=False) as client:
        for response in (client.get("/faults/read"), client.post("/faults/statements/no-number")):
            assert_problem(response, 503, "database-unavailable")
            assert response.headers["retry-after"] == "2"
            _assert_silent(response, database)


def test_an_exhausted_pool_is_503(make_settings: Callable[..., Settings]) -> None:
    """Whoever waits too long for the only connection is told to try again; afterwards it is free."""
    database = Database(make_settings(DATABASE_POOL_SIZE=1, DATABASE_MAX_OVERFLOW=0, DATABASE_POOL_TIMEOUT=1))
    with TestClient(_faulty(database), raise_server_exceptions=False) as client:
        with database.engine.connect() as held:
            held.execute(text("SELECT 1"))
            response = client.post("/faults/statements/no-number")
        assert_problem(response, 503, "busy")
        assert response.headers["retry-after"] == "1"
        _assert_silent(response, database)
        assert client.get("/faults/read").json() is True
    database.close()


@pytest.mark.parametrize("name", RAISING)
def test_an_error_nobody_expected_is_500_and_logged_once(
    client: TestClient, database: Database, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The body says nothing about it; the log has the error once, with the id that the client got."""
    response = client.get(f"/faults/{name}")
    problem = assert_problem(response, 500)
    assert problem == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "instance": f"/faults/{name}",
        "request_id": response.headers["x-request-id"],
    }
    _assert_silent(response, database)
    (record,) = _logged(caplog)
    assert record.levelno == logging.ERROR
    assert problem["request_id"] in record.getMessage()
    assert record.exc_info is not None
    assert CANARY in str(record.exc_info[1])


@ONE_ROUTE
def test_a_refusal_of_a_route_keeps_its_words_and_headers(client: TestClient) -> None:
    """An HTTPException is a problem like any other; what its author wrote is the detail."""
    response = client.get("/faults/teapot")
    problem = assert_problem(response, 418)
    assert (problem["detail"], response.headers["retry-after"]) == ("No coffee here.", "60")


def _exact(response: Any, status: int, **members: object) -> dict[str, Any]:
    problem = assert_problem(response, status)
    return {
        "title": problem["title"],
        "status": status,
        "request_id": response.headers["x-request-id"],
        "type": "about:blank",
        **members,
    }


@ONE_ROUTE
def test_an_unknown_path_has_the_shape(client: TestClient) -> None:
    """404 where there is no route, with nothing but the shape."""
    response = client.get("/nowhere")
    assert response.json() == _exact(response, 404, instance="/nowhere")


def test_an_absent_row_has_the_shape(client: TestClient) -> None:
    """404 where there is no row, with a sentence."""
    response = client.get("/api/v1/users/4711")
    wanted = _exact(response, 404, instance="/api/v1/users/4711", detail="There is no such user.")
    assert response.json() == wanted


@ONE_ROUTE
def test_a_wrong_method_has_the_shape(client: TestClient) -> None:
    """405, and `Allow` lists what would be right."""
    response = client.put("/api/v1/users")
    assert response.json() == _exact(response, 405, instance="/api/v1/users")
    assert response.headers["allow"] == "GET, POST"


@ONE_ROUTE
def test_an_invalid_request_has_the_shape(client: TestClient) -> None:
    """422 lists where and why, in the order of the fields, and never what was sent."""
    response = client.post("/api/v1/users?password=canary", json={"email": CANARY, "password": CANARY})
    assert response.json() == _exact(
        response,
        422,
        type="urn:problem:invalid-request",
        instance="/api/v1/users",
        detail="3 parts of the request cannot be used.",
        errors=[
            {"loc": ["body", "username"], "msg": "Field required"},
            {
                "loc": ["body", "email"],
                "msg": r"String should match pattern '^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$'",
            },
            {"loc": ["body", "password"], "msg": "Extra inputs are not permitted"},
        ],
    )
    assert CANARY not in response.text


@ONE_ROUTE
@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("/a b", "/a%20b"),
        ("/ä/\N{GRINNING FACE}", "/%C3%A4/%F0%9F%98%80"),
        ("/%22%3Cscript%3E", "/%22%3Cscript%3E"),
        ("/a?secret=1#part", "/a"),
        ("/%0d%0aSet-Cookie:x", "/%0D%0ASet-Cookie:x"),
        ("/%00", "/%00"),
    ],
)
def test_the_instance_is_the_path_as_a_uri(client: TestClient, path: str, instance: str) -> None:
    """What RFC 9457 asks for: a URI reference, encoded, without the query, which may hold secrets."""
    assert assert_problem(client.get(path), 404)["instance"] == instance


@ONE_ROUTE
def test_a_path_that_utf_8_cannot_hold_is_404(client: TestClient) -> None:
    """An event of a platform may hold half a surrogate pair; that is no reason to fail."""
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "GET", "path": "/\ud800", "query_string": b"", "headers": []}
    anyio.run(client.app, scope, receive, send)
    assert messages[0]["status"] == 404
    assert b'"instance":"/%3F"' in messages[1]["body"]


PATHS = ("/health/live", "/nowhere", "/faults/raise", "/api/v1/users?limit=0")


@ONE_ROUTE
@pytest.mark.parametrize(
    "request_id",
    ["abc-123", "Root=1-67891233-abcdef012345678912345678", "a" * 128, "00-4bf92f35-01", "A.b_c:d+e/f="],
)
def test_a_sane_request_id_is_taken(client: TestClient, request_id: str) -> None:
    """The caller's id comes back, in the header and in a problem's body."""
    for path in PATHS:
        response = client.get(path, headers={"X-Request-ID": request_id})
        assert response.headers["x-request-id"] == request_id
        assert response.json().get("request_id", request_id) == request_id


@ONE_ROUTE
@pytest.mark.parametrize(
    "request_id",
    [
        b"",
        b" ",
        b"a b",
        b"a\nb",
        b"a\r\nSet-Cookie: x=y",
        b"a\n",
        b"a\x00",
        b"a" * 129,
        "ä".encode(),
        b"\xff",
        b"<script>",
        b'"}',
        b"%0a",
        b"a,b",
        b"${jndi:x}",
    ],
)
def test_a_hostile_request_id_is_replaced(
    client: TestClient, request_id: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An id that is long, empty or more than plain characters never gets into headers, bodies or logs."""
    for path in PATHS:
        response = client.get(path, headers=[(b"x-request-id", request_id)])
        made = response.headers["x-request-id"]
        assert len(made) == 32
        assert int(made, 16)
        assert response.json().get("request_id", made) == made
        assert response.headers.get_list("x-request-id") == [made]
    (record,) = _logged(caplog)
    assert record.getMessage().isascii()
    assert record.getMessage().isprintable()
    assert request_id.strip() == b"" or request_id.decode("latin-1") not in record.getMessage()


@ONE_ROUTE
def test_each_request_has_an_id_of_its_own(client: TestClient) -> None:
    """Without an id of the caller's, no two requests share one."""
    ids = {client.get(path).headers["x-request-id"] for path in PATHS * 2}
    assert len(ids) == 2 * len(PATHS)
