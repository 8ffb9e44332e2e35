"""Every error has one form (RFC 9457), and the details of unexpected ones are only logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.onetrip.assertions import assert_problem, assert_silent, logged
from tests.onetrip.fastapi.faulty import CANARY, RAISING

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from lib.onetrip.pool.database import Database

# For what never asks for a connection: the way to the database makes no difference.
ONE_ROUTE = pytest.mark.parametrize("route", ["pooled"])


@pytest.mark.parametrize("name", RAISING)
def test_an_error_nobody_expected_is_500_and_logged_once(
    faulty_client: TestClient, database: Database, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The body says nothing about it; the log has the error once, with the id that the client got."""
    response = faulty_client.get(f"/faults/{name}")
    problem = assert_problem(response, 500)
    assert problem == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "instance": f"/faults/{name}",
        "request_id": response.headers["x-request-id"],
    }
    assert_silent(response, database)
    (record,) = logged(caplog)
    assert record.levelno == logging.ERROR
    assert problem["request_id"] in record.getMessage()
    assert record.exc_info is not None
    assert CANARY in str(record.exc_info[1])


@ONE_ROUTE
def test_a_refusal_of_a_route_keeps_its_words_and_headers(faulty_client: TestClient) -> None:
    """An HTTPException is a problem like any other; what its author wrote is the detail."""
    response = faulty_client.get("/faults/teapot")
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
    response = client.get("/authors/4711")
    wanted = _exact(response, 404, instance="/authors/4711", detail="There is no such author.")
    assert response.json() == wanted


@ONE_ROUTE
def test_a_wrong_method_has_the_shape(client: TestClient) -> None:
    """405, and `Allow` lists what would be right."""
    response = client.put("/authors")
    assert response.json() == _exact(response, 405, instance="/authors")
    assert response.headers["allow"] == "GET, HEAD, POST"


@ONE_ROUTE
def test_an_invalid_request_has_the_shape(client: TestClient) -> None:
    """422 lists where and why, in the order of the fields, and never what was sent."""
    response = client.post(
        "/authors?password=canary",
        json={"email": CANARY, "token": CANARY},
    )
    assert response.json() == _exact(
        response,
        422,
        type="urn:problem:invalid-request",
        instance="/authors",
        detail="3 parts of the request cannot be used.",
        errors=[
            {"loc": ["body", "name"], "msg": "Field required"},
            {"loc": ["body", "email"], "msg": "String should match pattern '^[^@]+@[^@]+$'"},
            {"loc": ["body", "token"], "msg": "Extra inputs are not permitted"},
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
    """The instance is a URI reference by RFC 9457, encoded, without the query, which may hold secrets."""
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
