"""Authorisation of every route that the API's own description names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.example.conftest import AsUser, Make
from tests.example.test_bad_input import Operation, _operation
from tests.onetrip.assertions import assert_problem

# Public routes; all others need a token.
OPEN = {"POST /api/v1/auth/register", "POST /api/v1/auth/token"}
# Routes that need a role, and the roles that have access.
FOR_STAFF = {
    "GET /api/v1/users": {"moderator", "admin"},
    "POST /api/v1/users/{user_id}/password": {"admin"},
}
# Columns that no answer has, for any user.
HIDDEN = ("password", "hash", "argon2", "idempotency_key")
ROOMS = ("posts", "tasks", "tags", "accounts", "transfers")


@dataclass(frozen=True)
class Route:
    """An operation of the description, and whether it wants a token."""

    operation: Operation
    needs_token: bool

    @property
    def name(self) -> str:
        return f"{self.operation.method} {self.operation.path}"

    @property
    def room(self) -> str:
        return self.operation.path.split("/")[3]


def _routes(app: FastAPI) -> list[Route]:
    document = app.openapi()
    return [
        Route(_operation(document, method.upper(), path, operation), bool(operation.get("security")))
        for path, operations in document["paths"].items()
        if path.startswith("/api/")
        for method, operation in operations.items()
    ]


@pytest.fixture
def ids(ada: dict[str, Any], client: TestClient) -> dict[str, int]:
    """One of everything that can be named by an id, all Ada's."""
    made = {"users": ada["id"]}
    accounts = [client.post("/api/v1/accounts", json={"name": "a", "balance": "9"}).json() for _ in range(2)]
    bodies = {
        "posts": {"title": "x", "content": "x"},
        "tasks": {"title": "x", "tags": ["x"]},
        "transfers": {
            "from_account_id": accounts[0]["id"],
            "to_account_id": accounts[1]["id"],
            "amount": "1",
        },
    }
    for room, body in bodies.items():
        made[room] = client.post(f"/api/v1/{room}", json=body).json()["id"]
    tag = client.get("/api/v1/tags").json()["items"][0]
    return {**made, "accounts": accounts[0]["id"], "tags": tag["id"]}


def _with_id(routes: list[Route], ids: dict[str, int]) -> Iterator[tuple[Route, str]]:
    for route in routes:
        named = route.operation.within("path")
        if named:
            (parameter,) = named
            yield route, route.operation.path.replace(f"{{{parameter.name}}}", str(ids[route.room]))


def test_every_route_is_known_here(app: FastAPI) -> None:
    """A route that wants no token is listed above: none is open by oversight."""
    routes = _routes(app)
    assert len(routes) >= 30
    assert {route.name for route in routes if not route.needs_token} == OPEN
    assert {route.room for route in routes if route.operation.within("path")} == {"users", *ROOMS}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer x",
        "Basic YTpi",
        "Bearer " + "a." * 5000,
        f"Bearer {jwt.encode({'sub': '1', 'exp': 2**33}, 'another key, of the same length 32', 'HS256')}",
    ],
)
def test_without_a_good_token_every_route_is_401(
    app: FastAPI, client: TestClient, header: str | None
) -> None:
    """A request without a token gets 401, whether its input is valid or not."""
    for route in _routes(app):
        if route.needs_token:
            request = route.operation.request("no token")
            headers = {"Authorization": header} if header else {}
            response = client.request(request.method, request.url, headers=headers)
            assert_problem(response, 401)
            challenge = response.headers["www-authenticate"]
            # RFC 6750: no error is named to a client that sent no token.
            sent = header is not None and header.startswith("Bearer ")
            assert challenge.startswith('Bearer realm="api"'), route.name
            assert ("invalid_token" in challenge) == sent, route.name


def test_what_is_anothers_is_404(
    app: FastAPI, client: TestClient, ids: dict[str, int], make_user: Make, as_user: AsUser
) -> None:
    """For each route with an id: to another person it answers as if nothing were there, and does nothing."""
    grace = as_user(make_user("grace"))
    absent = dict.fromkeys(ids, 4711)
    before = {room: client.get(f"/api/v1/{room}/{ids[room]}").json() for room in ids}
    routes = _routes(app)
    strangers = zip(_with_id(routes, ids), _with_id(routes, absent), strict=True)
    asked = 0
    for (route, path), (_, nowhere) in strangers:
        body = {"json": {"title": "x"} if route.room in {"posts", "tasks"} else {"name": "x"}}
        body = {"json": {"username": "other"}} if route.room == "users" else body
        if route.name in FOR_STAFF:
            continue
        options: Any = body if route.operation.has_body else {}
        problem = assert_problem(grace.request(route.operation.method, path, **options), 404)
        same = assert_problem(grace.request(route.operation.method, nowhere, **options), 404)
        for answer in (problem, same):
            del answer["instance"], answer["request_id"]
        assert problem == same, route.name
        asked += 1
    assert asked >= 16
    assert {room: client.get(f"/api/v1/{room}/{ids[room]}").json() for room in ids} == before


@pytest.mark.parametrize("role", ["user", "moderator", "admin"])
def test_a_lesser_role_is_403(app: FastAPI, make_user: Make, as_user: AsUser, role: str) -> None:
    """Each route that wants a role is refused to all who have not that one, and to no others."""
    make_user("other")
    client = as_user(make_user("someone", role=role))
    for route in _routes(app):
        roles = FOR_STAFF.get(route.name)
        request = route.operation.request("as it is")
        if roles:
            response = request.send(client)
            assert response.is_success if role in roles else response.status_code == 403, route.name
        declares = (
            "403" in app.openapi()["paths"][route.operation.path][route.operation.method.lower()]["responses"]
        )
        assert declares or not roles, route.name


@pytest.mark.slow
def test_no_answer_has_a_hidden_column(
    app: FastAPI, client: TestClient, ids: dict[str, int], make_user: Make, as_user: AsUser
) -> None:
    """Neither in what is answered nor in what is promised is there a word of a hash or a key."""
    root = as_user(make_user("root", role="admin"))
    answers = [
        person.get(path)
        for person in (client, root)
        for room in ids
        for path in (f"/api/v1/{room}", f"/api/v1/{room}/{ids[room]}", "/api/v1/users/me")
    ]
    new = {"username": "mary", "email": "mary@example.com", "password": "difference engine"}
    answers.append(client.post("/api/v1/auth/register", json=new))
    answers.append(root.patch(f"/api/v1/users/{ids['users']}", json={"username": "countess"}))
    assert sum(answer.is_success for answer in answers) >= 20
    said = " ".join(answer.text for answer in answers).lower()
    schemas = app.openapi()["components"]["schemas"]
    promised = json.dumps([schema for name, schema in schemas.items() if name.endswith("Out")]).lower()
    for word in HIDDEN:
        assert word not in said
        assert word not in promised
