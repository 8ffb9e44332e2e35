"""The peer goes silent: every request is answered by its deadline, and the next one is fine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING

import pytest

from lib.onetrip.pool.validation import PING_AFTER_SECONDS
from tests.faults.conftest import readable
from tests.faults.deployment import LATE_SECONDS, Answer, Application

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Deployment
    from tests.onetrip.conftest import Certificates
    from tests.onetrip.fault_proxy import Proxy

# At checkout the ping takes its second, and a busy machine its time to connect then.
DEADLINES_SECONDS = {"silent-checkout": 6}
DEADLINE_SECONDS = 2
# Processes that are tried at once, each with a network of its own.
PROCESSES = 5
Place = tuple[Application, "Proxy", int]


@pytest.fixture
def places(deployment: Deployment, certificates: Certificates, name: str) -> Iterator[list[Place]]:
    """Processes with a person each."""
    variables = {"REQUEST_TIMEOUT_SECONDS": str(DEADLINES_SECONDS.get(name, DEADLINE_SECONDS))}
    with ExitStack() as stack:
        places = []
        for person in deployment.people(PROCESSES):
            proxy = stack.enter_context(readable(deployment, certificates, "pooled"))
            application = stack.enter_context(deployment.serving(proxy.port, **variables))
            places.append((application, proxy, person))
        yield places


def _post(application: Application, person: int, title: str) -> Answer:
    return application.ask("POST", "/api/v1/posts", {"title": title, "content": "x"}, user=person)


def _read(application: Application, person: int) -> Answer:
    return application.ask("GET", "/api/v1/users/me", user=person)


def silent_connect(application: Application, proxy: Proxy, person: int, _: str) -> tuple[Answer, bool]:
    """A server that accepts and says nothing, while nothing is connected."""
    proxy.reset()
    with proxy.silence():
        answer = _read(application, person)
    return answer, answer.status in {503, 504}


def silent_checkout(application: Application, proxy: Proxy, person: int, _: str) -> tuple[Answer, bool]:
    """Connections that the network dropped while they were idle."""
    _read(application, person)
    proxy.forget()
    # The passing of idle time is the fault.
    Event().wait(PING_AFTER_SECONDS + 0.3)
    answer = _read(application, person)
    return answer, answer.status == 200


def silent_query(application: Application, proxy: Proxy, person: int, _: str) -> tuple[Answer, bool]:
    """Silence in the midst of a unit of work, before its end is sent."""
    _read(application, person)
    with proxy.unanswered(b"admit_caller"):
        answer = _read(application, person)
    return answer, answer.status in {503, 504}


def silent_commit(application: Application, proxy: Proxy, person: int, title: str) -> tuple[Answer, bool]:
    """The answer to a COMMIT never comes: to one that follows, and to one that a statement took along."""
    with proxy.unanswered(b"COMMIT"):
        if int(title.split()[1]) % 2:
            answer = application.ask("POST", "/api/v1/tags", {"name": title}, user=person)
        else:
            answer = _post(application, person, title)
    return answer, (answer.status, answer.kind) == (504, "outcome-unknown")


@pytest.mark.parametrize(
    ("name", "fault", "short"),
    [
        ("silent-connect", silent_connect, 5),
        ("silent-checkout", silent_checkout, 5),
        ("silent-query", silent_query, 10),
        ("silent-commit", silent_commit, 10),
    ],
    ids=["connect", "checkout", "query", "commit"],
)
def test_a_silent_peer_holds_nobody_beyond_the_deadline(
    deployment: Deployment,
    places: list[Place],
    rows: Rows,
    name: str,
    fault: Callable[[Application, Proxy, int, str], tuple[Answer, bool]],
    short: int,
) -> None:
    """The answer comes by the deadline and says what is known; the next request succeeds."""
    row = rows(name, 50, short)
    deadline_seconds = DEADLINES_SECONDS.get(name, DEADLINE_SECONDS)

    def trial(place: Place) -> None:
        application, proxy, person = place
        for number in range(row.of // PROCESSES):
            begin = time.monotonic()
            answer, is_right = fault(application, proxy, person, f"{person} {number}")
            is_in_time = answer.seconds < deadline_seconds + LATE_SECONDS
            after = _read(application, person)
            kept = is_right and is_in_time and after.status == 200
            row.count(kept, f"{answer}; then {after}; {time.monotonic() - begin:.1f} s")

    with ThreadPoolExecutor(PROCESSES) as threads:
        list(threads.map(trial, places))
    if name == "silent-commit":
        # The server had committed: nothing was repeated, though no answer arrived.
        stored = "(SELECT title FROM posts UNION ALL SELECT name FROM tags) stored"
        assert deployment.sql(f"SELECT count(*), count(DISTINCT title) FROM {stored}") == [(row.of, row.of)]
    row.check()
