"""The application's fixtures; the servers and databases are those of the package's tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import environment_with
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.databases import database, database_name, make_settings, route
from tests.onetrip.environment import PROJECT

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from tests.onetrip.servers import Servers

pytest_plugins = ["lib.onetrip.testing.plugin", "tests.onetrip.servers"]

TEMPLATE = "migrated"
# Owns nothing, and is bound by every policy.
SERVING_ROLE = "app_caller"


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a database with the newest schema and no rows."""
    servers.administer(f"CREATE DATABASE {TEMPLATE}")
    alembic(servers.url("direct", TEMPLATE), "upgrade", "head")
    let_serve(servers)
    return TEMPLATE


def let_serve(servers: Servers) -> None:
    """Let the serving role, if the migrations made it, log in as where the application is deployed."""
    if servers.administer(f"SELECT 1 FROM pg_roles WHERE rolname = '{SERVING_ROLE}'"):  # noqa: S608
        servers.administer(f"ALTER ROLE {SERVING_ROLE} LOGIN")


@pytest.fixture
def app(database: Database) -> FastAPI:
    """The application on this test's database."""
    from api.application import create_app  # noqa: PLC0415  (a second, for those that need it)

    return create_app(database)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client of the application, which sees a 500 as a user would."""
    from fastapi.testclient import TestClient  # noqa: PLC0415  (as above)

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def alembic(url: DatabaseURL, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Alembic's command line in a process of its own, as `make migrate` does."""
    text = url.render(hide_password=False)
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        # Both, so that none comes from a `.env` of this machine.
        env=environment_with(DATABASE_URL=text, DATABASE_URL_UNPOOLED=text),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=check,
    )
