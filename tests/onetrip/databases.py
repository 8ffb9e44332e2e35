"""Fixtures for a folder's tests: a database for each, reached directly and through the pooler.

The folder's `template` names the database that each test's is copied from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings, load_settings

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

ROUTES = ("direct", "pooled")


@pytest.fixture
def database_name(servers: Servers, template: str) -> Iterator[str]:
    """A database of this test's own."""
    with servers.copy(template) as name:
        yield name


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    """Each test that reaches the database does so directly and through the pooler."""
    route: str = request.param
    return route


@pytest.fixture
def make_settings(servers: Servers, database_name: str, route: str) -> Callable[..., Settings]:
    """Settings on this test's database and route, with further variables by keyword."""

    def make(**variables: object) -> Settings:
        urls = {
            "DATABASE_URL": servers.url("pooled", database_name).render(),
            "DATABASE_URL_UNPOOLED": servers.url("direct", database_name).render(),
        }
        return load_settings(**{**urls, "DATABASE_MODE": route, **variables})

    return make


@pytest.fixture
def database(make_settings: Callable[..., Settings]) -> Iterator[Database]:
    """The connection layer on this test's database."""
    database = Database(make_settings())
    yield database
    database.close()
