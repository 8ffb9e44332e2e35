"""Existing applications adopt the package by a few lines, keep their tests, and save round trips."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lib.onetrip.fastapi
from lib import onetrip
from lib.onetrip.doctor.code.project import Project
from lib.onetrip.doctor.code.rules import examine
from tests.adoption.conftest import APPS, NAMES, Application
from tests.documents import DOCS, blocks
from tests.onetrip.environment import PROJECT
from tests.onetrip.fault_proxy import Proxy

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

PAGE = DOCS / "existing-app.md"
MOST_LINES = 5
AT_ONCE = 48
# Long beside what the processor needs for a request, even on a busy machine.
ROUND_TRIP_SECONDS = 0.16
SUITE = (
    "-m",
    "pytest",
    "-q",
    "-c",
    "/dev/null",
    "--rootdir",
    ".",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
)
# Nothing is wrong with such a row before its transaction commits.
REFUSING = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.name = 'refused' THEN RAISE check_violation; END IF; RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON {table}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
"""
Copied = Callable[..., Application]


def difference(name: str) -> str:
    """The lines that change when the application adopts the package."""
    return (APPS / name / "adoption.diff").read_text()


def changed_lines(name: str) -> int:
    """Count the changed and added lines."""
    return len(re.findall(r"^\+(?!\+\+)", difference(name), flags=re.MULTILINE))


def promised_round_trips(name: str) -> dict[str, tuple[int, int]]:
    """The page's numbers for an application: before and after, by kind of request."""
    row = re.search(rf"^\| `{name}` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    assert row, f"{PAGE.name} has no row for {name}"
    numbers = [int(number) for number in re.findall(r"\d+", row[1])]
    assert numbers[0] == changed_lines(name)
    return {"read": (numbers[1], numbers[2]), "write": (numbers[3], numbers[4])}


def test_there_are_four_shapes() -> None:
    """A SessionLocal, async sessions, SQLModel's tutorial and a bare engine."""
    assert NAMES == ["async_sessions", "bare_engine", "session_local", "sqlmodel_heroes"]


def test_adoption_takes_few_lines(name: str) -> None:
    """At most five lines of the application change, none of its tests, and the page shows exactly them."""
    assert 0 < changed_lines(name) <= MOST_LINES
    assert "test_" not in difference(name)
    shown = re.findall(r"```diff\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert _without_positions(difference(name)) in [_without_positions(block) for block in shown]


def _without_positions(text: str) -> str:
    return re.sub(r"^@@.*$", "@@", text, flags=re.MULTILINE).strip()


def test_its_own_tests_pass_before(copied: Copied, servers: Servers, empty_database: str, name: str) -> None:
    """The application is a sound one: its suite passes on its own engine."""
    ran = copied(name, adopted=False).run(servers.url("direct", empty_database), *SUITE)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("platform", ["", "1"], ids=["server", "vercel"])
def test_its_own_tests_pass_after(  # noqa: PLR0913, PLR0917  (fixtures)
    copied: Copied, servers: Servers, empty_database: str, name: str, route: str, platform: str
) -> None:
    """The same suite passes unchanged, directly and through the pooler, on a server's pool and a tiny one."""
    app = copied(name, adopted=True)
    ran = app.run(servers.url(route, empty_database), *SUITE, VERCEL=platform)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("adopted", [False, True], ids=["before", "after"])
def test_round_trips_are_those_of_the_page(
    copied: Copied, servers: Servers, empty_database: str, name: str, *, adopted: bool
) -> None:
    """A warm read and a warm write wait for the network as often as the page says."""
    url = servers.url("direct", empty_database)
    app = copied(name, adopted=adopted)
    app.make_tables(url)
    with Proxy(("127.0.0.1", url.port or 0)).running() as proxy:
        # Each way.
        proxy.latency_seconds = ROUND_TRIP_SECONDS / 2
        ran = app.run(
            replace(url, port=proxy.port), str(Path(__file__).parent / "duration.py"), *app.shape.arguments
        )
    assert ran.returncode == 0, ran.stderr
    measured = {kind: int(seconds / ROUND_TRIP_SECONDS) for kind, seconds in json.loads(ran.stdout).items()}
    assert measured == {kind: numbers[adopted] for kind, numbers in promised_round_trips(name).items()}


def test_no_success_is_told_of_what_was_not_stored(
    copied: Copied, servers: Servers, empty_database: str, name: str, route: str
) -> None:
    """A COMMIT that fails is an error to the client, and nothing of it is stored."""
    app = copied(name, adopted=True)
    with app.served(servers.url(route, empty_database), VERCEL="1") as client:
        servers.administer(REFUSING.format(table=app.shape.table), empty_database)
        assert app.shape.created(client, "kept").is_success
        assert not app.shape.created(client, "refused").is_success
    assert servers.administer(f"SELECT name FROM {app.shape.table}", empty_database) == [("kept",)]  # noqa: S608


def test_a_commit_after_the_response_was_one(copied: Copied, servers: Servers, empty_database: str) -> None:
    """The same request of the asynchronous application was a 201 before, with nothing stored."""
    app = copied("async_sessions", adopted=False)
    with app.served(servers.url("direct", empty_database)) as client:
        servers.administer(REFUSING.format(table=app.shape.table), empty_database)
        assert app.shape.created(client, "refused").status_code == 201
    assert servers.administer("SELECT count(*) FROM items", empty_database) == [(0,)]


def test_concurrent_clients_are_served_on_two_connections(
    copied: Copied, servers: Servers, empty_database: str, name: str
) -> None:
    """As many requests at once as there are worker threads and more: each is answered, none with an error."""
    app = copied(name, adopted=True)
    with (
        app.served(servers.url("pooled", empty_database), VERCEL="1") as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        assert app.shape.created(client, "first").is_success
        created = list(threads.map(lambda number: app.shape.created(client, f"n{number}"), range(AT_ONCE)))
        assert {answer.status_code for answer in created} == {201}
        keys = [answer.json()["id"] for answer in created]
        read = threads.map(lambda key: client.get(f"{app.shape.items.rstrip('/')}/{key}"), keys)
        assert [answer.json()["name"] for answer in read] == [f"n{number}" for number in range(AT_ONCE)]


def test_the_pages_snippets_run(copied: Copied, servers: Servers, empty_database: str) -> None:
    """The page's Python runs as one program, on a database with nothing in it."""
    app = copied("session_local", adopted=False)
    program = "\n".join(text for kind, text in blocks(PAGE) if kind == "python")
    call = (
        "from fastapi.testclient import TestClient\n"
        "with TestClient(app) as client:\n"
        "    assert client.post('/notes', params={'text_': 'two'}).status_code == 201\n"
        "    assert client.get('/health/ready').status_code == 200\n"
    )
    (app.folder / "page.py").write_text(program + call)
    ran = app.run(servers.url("direct", empty_database), "page.py")
    assert ran.returncode == 0, ran.stderr
    assert servers.administer("SELECT text FROM notes ORDER BY id", empty_database) == [("one",), ("two",)]


def test_the_page_imports_public_names_only() -> None:
    """All that the page shows of the package is declared as its public face."""
    shown = re.findall(r"^from (onetrip[\w.]*) import (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    faces = {"onetrip": onetrip.__all__, "onetrip.fastapi": lib.onetrip.fastapi.__all__}
    names = [(module, name) for module, names in shown for name in names.split(", ")]
    assert names
    assert [(module, name) for module, name in names if name not in faces[module]] == []


# By application: what the doctor rightly says of it as it was.
MISTAKES = {
    "async_sessions": ["commit-after-response"],
    "bare_engine": [],
    "session_local": [],
    "sqlmodel_heroes": ["pool-without-ping"],
}


def test_the_doctor_finds_the_mistakes_of_the_applications(copied: Copied, name: str) -> None:
    """The mistakes that are there, and no others; after the adoption none is left."""
    for adopted in (False, True):
        project, unreadable = Project.read(copied(name, adopted=adopted).folder)
        assert unreadable == []
        assert [place.rule for place in examine(project)] == ([] if adopted else MISTAKES[name])


def test_the_doctor_has_nothing_to_say_of_this_repository() -> None:
    """The application, the example and the package itself raise no false alarm."""
    project, _ = Project.read(PROJECT)
    own = [place for place in examine(project) if not place.path.startswith("benchmarks/")]
    assert own == []
