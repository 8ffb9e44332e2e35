"""People and tasks made through the API, as a client makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from api.application import create_app
from lib.engine import Database
from tests.conftest import Servers
from tests.http import faulty

Make = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def used_databases() -> list[str]:
    """Databases that earlier tests left as they found them, by name."""
    return []


@pytest.fixture
def database_name(servers: Servers, template: str, used_databases: list[str]) -> Iterator[str]:
    """A database without rows: one that was used before where possible, since a new one takes long."""
    if used_databases:
        name = used_databases.pop()
    else:
        name = f"used_{uuid4().hex}"
        servers.administer(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield name
    if servers.schema(name) == servers.schema(template):
        servers.empty(name)
        used_databases.append(name)
    else:
        servers.administer(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def make_user(client: TestClient) -> Make:
    """Create a user by name, with further fields by keyword."""

    def make(username: str, **fields: object) -> dict[str, Any]:
        user = {"username": username, "email": f"{username}@example.com", **fields}
        return _created(client, "/api/v1/users", user)

    return make


@pytest.fixture
def ada(make_user: Make) -> dict[str, Any]:
    """A user."""
    return make_user("ada")


@pytest.fixture
def make_task(client: TestClient, ada: dict[str, Any]) -> Make:
    """Create a task by title, Ada's unless said otherwise, with further fields by keyword."""

    def make(title: str = "Write", **fields: object) -> dict[str, Any]:
        return _created(client, "/api/v1/tasks", {"owner_id": ada["id"], "title": title, **fields})

    return make


def _created(client: TestClient, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=fields)
    assert response.status_code == 201, response.text
    row: dict[str, Any] = response.json()
    return row


@pytest.fixture
def faulty_client(database: Database) -> Iterator[TestClient]:
    """A client of the application with routes that fail."""
    with served_faulty(database) as client:
        yield client


@contextmanager
def served_faulty(database: Database) -> Iterator[TestClient]:
    """The same on a database of the test's own making, which is closed afterwards."""
    app = create_app(database)
    app.include_router(faulty.router)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    database.close()
