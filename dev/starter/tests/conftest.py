"""Fixtures of the application's tests; `database` and `client` come with the plugin."""

import pytest
from fastapi import FastAPI

from api.application import create_app
from lib.onetrip.pool.database import Database

pytest_plugins = ["lib.onetrip.testing.plugin", "tests.onetrip.servers"]


@pytest.fixture
def app(database: Database) -> FastAPI:
    """The application on this test's database, migrated."""
    return create_app(database)
