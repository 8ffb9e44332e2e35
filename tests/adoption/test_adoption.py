"""Existing applications adopt the package by a few lines, keep their tests, and lose round trips and false 2xx."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

import httpx2 as httpx
import pytest

from tests.adoption.conftest import APPS, NAMES, Application
from tests.documents import DOCS
from tests.fault_proxy import Proxy

if TYPE_CHECKING:
    from tests.conftest import Servers

PAGE = DOCS / "existing-app.md"
MOST_LINES = 5
CROWD = 48
# Requests until all is prepared and cached, and requests that are counted.
WARM, REPEATED = 6, 5
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
    """How many lines are changed or added."""
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
def test_its_own_tests_pass_after(
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
    """A warm read and a warm write take as many round trips as the page says, counted on the wire."""
    url = servers.url("direct", empty_database)
    app = copied(name, adopted=adopted)
    with Proxy(("127.0.0.1", url.port or 0)).running() as proxy:
        with app.served(replace(url, port=proxy.port)) as client:
            key = app.shape.created(client, "first").raise_for_status().json()["id"]
            path = f"{app.shape.items.rstrip('/')}/{key}"
            measured = {
                "read": _round_trips(proxy, lambda _: client.get(path)),
                "write": _round_trips(proxy, lambda number: app.shape.created(client, f"n{number}")),
            }
    promised = promised_round_trips(name)
    assert measured == {kind: numbers[adopted] for kind, numbers in promised.items()}


def _round_trips(proxy: Proxy, request: Callable[[int], httpx.Response]) -> float:
    """Round trips of one request, those included that come after the response."""
    for number in range(WARM):
        request(number).raise_for_status()
    _settle(proxy)
    with proxy.counting() as flights:
        for number in range(WARM, WARM + REPEATED):
            request(number).raise_for_status()
        _settle(proxy)
        return flights() / REPEATED


def _settle(proxy: Proxy) -> None:
    """Wait until nothing is said any more."""
    said = -1
    while said != proxy.flights:
        said = proxy.flights
        Event().wait(0.3)


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


def test_a_crowd_is_served_on_two_connections(
    copied: Copied, servers: Servers, empty_database: str, name: str
) -> None:
    """As many requests at once as there are worker threads and more: each is answered, none with an error."""
    app = copied(name, adopted=True)
    with (
        app.served(servers.url("pooled", empty_database), VERCEL="1") as client,
        ThreadPoolExecutor(CROWD) as crowd,
    ):
        assert app.shape.created(client, "first").is_success
        created = list(crowd.map(lambda number: app.shape.created(client, f"n{number}"), range(CROWD)))
        assert {answer.status_code for answer in created} == {201}
        keys = [answer.json()["id"] for answer in created]
        read = crowd.map(lambda key: client.get(f"{app.shape.items.rstrip('/')}/{key}"), keys)
        assert [answer.json()["name"] for answer in read] == [f"n{number}" for number in range(CROWD)]
