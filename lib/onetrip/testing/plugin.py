"""pytest's plugin: `database` and `client` for each test, and the marker `round_trips(n)`.

Fixtures to override in a conftest: `app` (the application on `database`), and `prepare_database` where the
tables come from elsewhere than Alembic.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .trips import TRIPS

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from ..pool.database import Database
    from ..url.database_url import DatabaseURL
    from .databases import Databases


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take a server's URL from the command line or the configuration."""
    remedy = "URL of a PostgreSQL on which test databases may be made; without it one is started"
    parser.addoption("--postgres-url", metavar="URL", help=remedy)
    parser.addini("postgres_url", remedy, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker, and each connection from the first one on."""
    config.addinivalue_line(
        "markers",
        "round_trips(n): the test makes n round trips to its database; round_trips(at_most=n): no more.",
    )
    TRIPS.install()
    config.add_cleanup(TRIPS.uninstall)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hold a marked test to its budget; its fixtures do not count."""
    marker = item.get_closest_marker("round_trips")
    if marker is None:
        return (yield)
    from .budget import round_trips  # noqa: PLC0415  (for marked tests only)

    with round_trips(*marker.args, **marker.kwargs):
        return (yield)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """The server on which test databases are made: one that was named, or an embedded one."""
    from ..url.database_url import DatabaseURL  # noqa: PLC0415  (tests without a database need none of it)
    from .databases import Databases, embedded  # noqa: PLC0415

    given = request.config.getoption("--postgres-url") or request.config.getini("postgres_url")
    if given:
        yield Databases(DatabaseURL.parse(given))
        return
    with embedded() as url:
        yield Databases(url)


@pytest.fixture(scope="session")
def prepare_database(request: pytest.FixtureRequest) -> Callable[[DatabaseURL], None]:
    """Fill the database that each test's is copied from: with Alembic's migrations, if there are any."""
    from .databases import migrate  # noqa: PLC0415  (tests without a database need none of it)

    return lambda url: migrate(url, request.config.rootpath)


@pytest.fixture(scope="session")
def database_template(postgres: Databases, prepare_database: Callable[[DatabaseURL], None]) -> Iterator[str]:
    """The name of the database that each test's is copied from."""
    with postgres.made() as url:
        prepare_database(url)
        yield str(url.database)


@pytest.fixture
def database_url(
    postgres: Databases, database_template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of a database of this test's own, which DATABASE_URL names too as long as the test runs."""
    from ..pool.database import reset  # noqa: PLC0415  (tests without a database need none of it)

    with postgres.made(database_template) as url:
        rendered = url.render(hide_password=False)
        for name in ("DATABASE_URL", "DATABASE_URL_UNPOOLED"):
            monkeypatch.setenv(name, rendered)
        reset()
        yield rendered
        reset()


@pytest.fixture
def database(database_url: str) -> Database:
    """The engines of this test's own database, which code without a request finds too."""
    from ..pool import database as process  # noqa: PLC0415  (tests without a database need none of it)

    assert database_url  # noqa: S101  (DATABASE_URL names it)
    return process.database()


@pytest.fixture
def app() -> Any:
    """Refuse: only the application's own conftest knows how it is made."""
    raise pytest.UsageError(
        "app: is not there. Write a fixture `app` in conftest.py that returns your application on `database`."
    )


@pytest.fixture
def client(app: Any) -> Iterator[TestClient]:
    """A client of `app`, which raises what a route raises."""
    from fastapi.testclient import TestClient  # noqa: PLC0415  (an application may be without FastAPI)

    with TestClient(app) as client:
        yield client
