"""The one shape of every error, asserted in one place."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from httpx2 import Response

    from lib.onetrip.pool.database import Database

# As RFC 9110 has them, on every Python.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
REQUIRED = {"type", "title", "status", "instance", "request_id"}
# No statement, driver or server speaks to a client; `canary` is what the faulty routes put everywhere.
FORBIDDEN = ("canary", "psycopg", "sqlalchemy", "postgres", "127.0.0.1", "sqlstate", "traceback", "relation ")
BY_CHANCE = {"x-request-id", "x-process-time", "server-timing"}
ALLOWED = REQUIRED | {"detail", "errors", "checks"}


def assert_problem(response: Response, status: int | range, kind: str | None = None) -> dict[str, Any]:
    """`response` is an RFC 9457 problem with `status`, of `kind` if given; its body is returned."""
    statuses = status if isinstance(status, range) else (status,)
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body.keys() >= REQUIRED
    assert body.keys() <= ALLOWED
    assert body["status"] == response.status_code
    assert body["title"] == TITLES.get(response.status_code, HTTPStatus(response.status_code).phrase)
    assert body["request_id"] == response.headers["x-request-id"] != ""
    assert body["instance"].startswith("/")
    assert body["type"] == (f"urn:problem:{kind}" if kind else body["type"])
    for part in body.get("errors", []):
        assert part.keys() == {"loc", "msg"}
    return body


def assert_silent(response: Response, database: Database) -> None:
    """`response` has no word of the database, its driver or its address, in body and headers."""
    # Ids and times are digits by chance, a port's among them.
    headers = {name: value for name, value in response.headers.items() if name not in BY_CHANCE}
    said = f"{response.text} {headers}".lower().replace(response.headers["x-request-id"].lower(), "")
    for word in (*FORBIDDEN, database.url.port, database.url.database):
        assert str(word) not in said, word


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records of level warning or higher, of any logger."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]
