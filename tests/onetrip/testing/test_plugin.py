"""The plugin in a project of its own: a database for each test, a client, the marker, and its words."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.onetrip.settings.settings import environment_with
from tests.onetrip.environment import PROJECT, needs_fastapi
from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

CONFTEST = """
import pytest
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy import BigInteger, ForeignKey, Identity, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from lib.onetrip import database as process_database
from lib.onetrip import transaction
from lib.onetrip.fastapi import SessionDep, install
from lib.onetrip.pool.engines import migration_engine


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelves.id"))


def put_a_shelf_up():
    with transaction() as session:
        session.add(Shelf(books=[Book()]))


@pytest.fixture(scope="session")
def prepare_database():
    def prepare(url):
        with migration_engine(url).begin() as connection:
            Base.metadata.create_all(connection)
    return prepare


@pytest.fixture
def app(database):
    app = FastAPI()
    install(app, database)

    @app.post("/shelves", status_code=202)
    def add(tasks: BackgroundTasks) -> None:
        tasks.add_task(put_a_shelf_up)

    @app.get("/shelves")
    def books(session: SessionDep) -> list[int]:
        return [len(shelf.books) for shelf in session.scalars(select(Shelf))]

    return app
"""
PASSING = """
import pytest


def test_starts_empty(client):
    client.post("/shelves")
    assert client.get("/shelves").json() == [1]


def test_starts_empty_again(client):
    assert client.get("/shelves").json() == []


@pytest.mark.round_trips(0)
def test_costs_nothing():
    pass


@pytest.mark.round_trips(at_most=9)
def test_costs_little(client):
    client.get("/shelves")
"""
FAILING = """
import pytest


@pytest.mark.round_trips(1)
def test_costs_more(client):
    for _ in range(2):
        client.post("/shelves")
    client.get("/shelves")
"""
# Plugins of others, which a project that needs them not has not.
BARE = ("-p", "no:xdist", "-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Project:
    """A folder with a conftest and tests."""

    folder: Path

    def run(self, *arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
        """Run pytest on the files `test_<name>.py`."""
        (self.folder / "conftest.py").write_text(CONFTEST)
        for name, text in files.items():
            (self.folder / f"test_{name}.py").write_text(text)
        command = [sys.executable, "-m", "pytest", *BARE, "-p", "lib.onetrip.testing.plugin", *arguments]
        environment = environment_with(PYTHONPATH=str(PROJECT))
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


@pytest.fixture
def given(servers: Servers) -> str:
    """The option that names a server."""
    return f"--postgres-url={servers.url('direct').render(hide_password=False)}"


@needs_fastapi
def test_each_test_has_a_database_and_a_client_of_its_own(
    project: Project, given: str, servers: Servers
) -> None:
    """Rows of one test are not there in the next, background tasks find it too, and none is left behind."""
    before = servers.administer("SELECT datname FROM pg_database ORDER BY 1")
    done = project.run(given, passing=PASSING)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert servers.administer("SELECT datname FROM pg_database ORDER BY 1") == before


@needs_fastapi
def test_a_server_is_started_where_none_is_named(project: Project) -> None:
    """Without a URL the tests run on an embedded PostgreSQL."""
    done = project.run("-k", "test_starts_empty", passing=PASSING)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@needs_fastapi
def test_a_failure_names_the_routes_lines_and_the_relation(project: Project, given: str) -> None:
    """More round trips than the marker allows: the line of each is the application's, N+1 has its name."""
    done = project.run(given, failing=FAILING)
    assert done.returncode == 1
    assert "RoundTripsError: round_trips(1): there were " in done.stdout
    assert "N+1: Shelf.books was loaded 2 times" in done.stdout
    line = next(number for number, text in enumerate(CONFTEST.splitlines(), 1) if "select(Shelf)" in text)
    assert f"conftest.py:{line} <listcomp>" in done.stdout or f"conftest.py:{line} books" in done.stdout


@needs_fastapi
def test_a_test_without_a_database_starts_none(project: Project, given: str) -> None:
    """A server that cannot be reached is no matter to a test that does not ask for a database."""
    nowhere = "--postgres-url=postgresql://postgres@127.0.0.1:1/nowhere"
    done = project.run(nowhere, "-k", "test_costs_nothing", passing=PASSING)
    assert done.returncode == 0, done.stdout + done.stderr
    assert given != nowhere


def test_an_application_that_is_not_there_is_asked_for(project: Project, given: str) -> None:
    """`client` without a fixture `app` says which fixture to write, and where."""
    (project.folder / "elsewhere").mkdir()
    (project.folder / "elsewhere" / "test_it.py").write_text("def test_it(client):\n    pass\n")
    done = project.run(given, "--noconftest", "elsewhere/test_it.py")
    assert "app: is not there. Write a fixture `app` in conftest.py" in done.stdout
