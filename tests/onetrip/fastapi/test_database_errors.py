"""Answers to failures of the database: by SQLSTATE, on a real server, without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text

from lib.onetrip.pool.database import Database
from lib.onetrip.retries import UNIT_ATTEMPTS
from lib.onetrip.sqlstate import Kind
from lib.onetrip.testing.databases import free_port
from tests.onetrip.assertions import assert_problem, assert_silent, logged
from tests.onetrip.fastapi.faulty import CANARY, CASES, served_faulty

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from lib.onetrip.settings.settings import Settings


@pytest.fixture
def locked(database: Database) -> Iterator[None]:
    """Another connection holds the advisory lock."""
    with psycopg.connect(database.url.render(hide_password=False)) as connection:
        connection.execute(b"SELECT pg_advisory_xact_lock(7)")
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("name", CASES)
def test_a_database_error_has_the_status_it_deserves(
    faulty_client: TestClient, database: Database, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By SQLSTATE: the status, `Retry-After` where waiting helps, and no word of the database's."""
    case = CASES[name]
    response = faulty_client.post(f"/faults/statements/{name}")
    kind = None if case.kind is Kind.INTERNAL else str(case.kind)
    problem = assert_problem(response, case.status, kind)
    assert response.headers.get("retry-after") == case.retry_after
    assert ("detail" in problem) == (case.kind is not Kind.INTERNAL)
    assert_silent(response, database)
    records = [record for record in logged(caplog) if problem["request_id"] in record.getMessage()]
    assert len(records) == (1 if case.status >= 500 else 0)


def test_every_kind_of_error_is_among_the_cases() -> None:
    """Only a COMMIT whose answer was lost needs a faulty network, and has its own tests."""
    tested = {case.kind for case in CASES.values()} | {Kind.CONFLICT}
    assert set(Kind) - tested == {Kind.UNKNOWN}


@pytest.mark.slow
def test_an_update_that_loses_every_time_is_409(faulty_client: TestClient, database: Database) -> None:
    """A serialization failure is tried again, and told as a conflict when it happens each time."""
    with psycopg.connect(database.url.render(hide_password=False), autocommit=True) as connection:
        connection.execute(b"INSERT INTO authors (name, email) VALUES ('ada', 'ada@example.com')")
        response = faulty_client.post("/faults/lost-update")
        rows = connection.execute(b"SELECT name, email FROM authors").fetchall()
    assert_problem(response, 409, "write-conflict")
    assert response.headers["retry-after"] == "1"
    # Every try was overtaken once, and none was stored.
    assert rows == [("ada", "ada@example.com" + "+" * UNIT_ATTEMPTS)]
    assert_silent(response, database)


def test_a_write_in_a_read_session_is_500(faulty_client: TestClient, database: Database) -> None:
    """The code asks for what its session cannot do: no later try helps, and a sentence says what does."""
    response = faulty_client.get("/faults/write-in-a-read-session")
    assert response.status_code == 500
    assert "Write in a SessionDep" in response.json()["detail"]
    assert "retry-after" not in response.headers
    assert_silent(response, database)


def test_a_value_that_the_driver_cannot_send_is_422(faulty_client: TestClient, database: Database) -> None:
    """A value that never reached the server has no SQLSTATE, and is the client's mistake nevertheless."""
    response = faulty_client.get("/faults/nul")
    assert_problem(response, 422, "invalid-value")
    assert_silent(response, database)


@pytest.mark.slow
def test_an_unreachable_server_is_503(make_settings: Callable[..., Settings]) -> None:
    """Without a server the answer comes by the deadline, with `Retry-After`, and names no host."""
    url = f"postgresql://{CANARY}:{CANARY}@127.0.0.1:{free_port()}/{CANARY}"
    database = Database(make_settings(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url, REQUEST_TIMEOUT_SECONDS=1))
    with served_faulty(database) as client:
        for response in (client.get("/faults/read"), client.post("/faults/statements/no-number")):
            assert_problem(response, 503, "database-unavailable")
            assert response.headers["retry-after"] == "2"
            assert_silent(response, database)


@pytest.mark.slow
def test_an_exhausted_pool_is_503(make_settings: Callable[..., Settings]) -> None:
    """A request that waits too long for the only connection gets `Retry-After`; later it is free."""
    database = Database(make_settings(DATABASE_POOL_SIZE=1, DATABASE_MAX_OVERFLOW=0, DATABASE_POOL_TIMEOUT=1))
    with served_faulty(database) as client:
        with database.engine.connect() as held:
            held.execute(text("SELECT 1"))
            response = client.post("/faults/statements/no-number")
        assert_problem(response, 503, "busy")
        assert response.headers["retry-after"] == "1"
        assert_silent(response, database)
        assert client.get("/faults/read").json() == 1
    database.close()
