"""People and tasks made through the API, as a client makes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings, load_settings
from tests.conftest import SERVING_ROLE
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY
from tests.onetrip.servers import Servers

Make = Callable[..., dict[str, Any]]
AsUser = Callable[[dict[str, Any]], TestClient]
PASSWORD = "difference engine"
TABLES = "users, attempts, audit, idempotency_keys, posts, tags, tasks, task_tags, accounts, transfers"


@pytest.fixture(params=[pytest.param("direct", marks=pytest.mark.slow), "pooled"])
def route(request: pytest.FixtureRequest) -> str:
    """Each test does what it does through the pooler; directly, too, where there is more time."""
    route: str = request.param
    return route


@pytest.fixture
def make_settings(servers: Servers, database_name: str, route: str) -> Callable[..., Settings]:
    """Settings on this test's database, as the role that serves requests and owns nothing."""

    def make(**variables: object) -> Settings:
        urls = {
            "DATABASE_URL": servers.url("pooled", database_name, SERVING_ROLE).render(),
            "DATABASE_URL_UNPOOLED": servers.url("direct", database_name, SERVING_ROLE).render(),
        }
        return load_settings(**{**urls, "DATABASE_MODE": route, **variables})

    return make


@pytest.fixture
def owner(servers: Servers, database_name: str) -> Iterator[Database]:
    """The same database by the role that owns it."""
    owner = Database(load_settings(DATABASE_URL=servers.url("direct", database_name).render()))
    yield owner
    owner.close()


@pytest.fixture
def make_user(app: FastAPI, database: Database, servers: Servers) -> Make:
    """Register a user by name, with a role by keyword."""

    def make(username: str, role: str = "user", **fields: object) -> dict[str, Any]:
        new = {"username": username, "email": f"{username}@example.com", "password": PASSWORD, **fields}
        with TestClient(app) as client:
            user = _created(client, "/api/v1/auth/register", new)
        if role != "user":
            name = str(database.url.database)
            servers.administer(f"UPDATE users SET role = '{role}' WHERE id = {user['id']}", name)  # noqa: S608  (ours)
        return {**user, "role": role}

    return make


@pytest.fixture
def as_user(app: FastAPI) -> AsUser:
    """A client that sends the token of a user, given as the API shows them."""

    def client(user: dict[str, Any]) -> TestClient:
        return TestClient(app, raise_server_exceptions=False, headers=authorization(user["id"]))

    return client


@pytest.fixture
def ada(client: TestClient, make_user: Make) -> dict[str, Any]:
    """A user, whose token the client sends from now on."""
    user = make_user("ada")
    client.headers.update(authorization(user["id"]))
    return user


@pytest.fixture
def root(client: TestClient, make_user: Make) -> dict[str, Any]:
    """An administrator, whose token the client sends from now on."""
    user = make_user("root", role="admin")
    client.headers.update(authorization(user["id"]))
    return user


def authorization(user_id: int) -> dict[str, str]:
    """The header that names a user, for half an hour."""
    now = int(time.time())
    claims = {"iss": JWT_ISSUER, "aud": "api", "sub": str(user_id), "iat": now, "exp": now + 1800}
    token = jwt.encode(claims, JWT_SECRET_KEY, algorithm="HS256", headers={"typ": "at+jwt"})
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def make_task(client: TestClient, ada: dict[str, Any]) -> Make:  # noqa: ARG001  (whose tasks they are)
    """Create a task of Ada's by title, with further fields by keyword."""

    def make(title: str = "Write", **fields: object) -> dict[str, Any]:
        return _created(client, "/api/v1/tasks", {"title": title, **fields})

    return make


def _created(client: TestClient, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=fields)
    assert response.status_code == 201, response.text
    row: dict[str, Any] = response.json()
    return row
