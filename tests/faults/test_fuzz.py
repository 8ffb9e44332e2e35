"""Random requests get no 5xx, and only the application writes to the log."""

from __future__ import annotations

import json
import random
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.faults import fuzz_requests as wild
from tests.faults.deployment import Function
from tests.onetrip.events import SHAPES, Request

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Application, Deployment
    from tests.onetrip.fault_proxy import Proxy

CLIENTS = 4
CLIENT_SECONDS = 30.0
# Events that are no HTTP requests: refused by failing, so that a queue keeps what it sent.
STRANGE: tuple[object, ...] = (None, [], {}, 7, "x", {"Records": [{"body": wild.FORGED}]}, {"version": "3.0"})


def test_no_request_makes_the_application_fail(
    deployment: Deployment, application: Application, rows: Rows, chance: random.Random
) -> None:
    """Sizes, encodings, NUL, surrogates, depth, line breaks, spoofed headers, unknown methods."""
    row = rows("fuzz-http", 5_000, 1_000)
    (person,) = deployment.people()
    deployment.accounts(person, ["5.00", "5.00"])
    requests = [wild.request(chance, person) for _ in range(row.of)]
    assert application.port is not None
    port = application.port
    statuses: Counter[int] = Counter()

    def send(request: wild.WildRequest) -> int:
        with socket.create_connection(("127.0.0.1", port), timeout=CLIENT_SECONDS) as client:
            answer = b""
            # A server may answer, and close the connection, before it has read the whole request.
            with suppress(ConnectionError):
                client.sendall(request.raw)
            with suppress(ConnectionError):
                while data := client.recv(65536):
                    answer += data
        words = answer.split(b" ", 2)
        return int(words[1]) if answer.startswith(b"HTTP/1.1 ") else 0

    with ThreadPoolExecutor(CLIENTS) as clients:
        for request, status in zip(requests, clients.map(send, requests), strict=True):
            statuses[status] += 1
            is_answer = 200 <= status < 500 or (status == 0 and (request.broken or len(request.body) > 10**6))
            row.count(is_answer, f"{status}: {request.raw[:300]!r}")
    row.note = _shares(statuses)
    assert _forged(application.log()) == []
    assert application.ask("GET", "/api/v1/users/me", user=person).status == 200
    row.check()


def test_no_event_makes_the_function_fail(
    deployment: Deployment, network: Proxy, rows: Rows, chance: random.Random
) -> None:
    """The same in the shapes of all four services; what is no request fails the invocation, by name."""
    row = rows("fuzz-lambda", 5_000, 500)
    (person,) = deployment.people()
    statuses: Counter[int] = Counter()
    with deployment.function(network.port, REQUEST_TIMEOUT_SECONDS="5") as function:
        assert isinstance(function, Function)
        for number in range(row.of):
            if number % 50 == 49:
                event: Any = chance.choice(STRANGE)
                answer = function.runtime.invoke(event)
                row.count(answer.get("errorType") == "UnknownEventError", (event, answer))
                continue
            event = _event(chance, person)
            answer = function.runtime.invoke(event)
            statuses[answer.get("statusCode", 0)] += 1
            row.count(200 <= answer.get("statusCode", 0) < 500, (answer, event))
        assert _forged(function.log()) == []
    row.note = _shares(statuses)
    row.check()


def _event(chance: random.Random, person: int) -> Any:
    request = wild.request(chance, person)
    # In a JSON payload a lone surrogate and a line break may stand in any text.
    odd = chance.choice(("", "", "\ud800", f"\n{wild.FORGED}", "\x00", f"\r\n{wild.FORGED}: x"))
    path, _, query = request.target.partition("?")
    pairs = tuple((name, value) for name, _, value in (part.partition("=") for part in query.split("&")))
    headers = {
        name or "x": value + (odd if name == "X-Request-ID" else "") for name, value in request.headers
    }
    try:
        request.body.decode()
        encoded = chance.random() < 0.3
    except UnicodeDecodeError:
        encoded = True
    event: Any = chance.choice(list(SHAPES.values()))(
        Request(request.method, path, pairs if query else (), request.body, headers, encoded)
    )
    return event if not chance.randrange(20) else _strained(event, odd, chance)


def _strained(event: Any, odd: str, chance: random.Random) -> Any:
    """The event with an oddity in its path, as a service that decodes it may hand over."""
    for name in ("rawPath", "path"):
        if odd and name in event and not chance.randrange(3):
            event[name] += odd
    return event


def _forged(log: str) -> list[str]:
    """Lines of the log that a client has written; where lines are JSON, each must be one object."""
    lines = log.splitlines()
    objects = [line for line in lines if line.startswith("{")]
    for line in objects:
        assert isinstance(json.loads(line), dict), line
    return [line[:200] for line in lines if line.lstrip().startswith(wild.FORGED)]


def _shares(statuses: Counter[int]) -> str:
    told = {status: count for status, count in sorted(statuses.items()) if status}
    none = f", {statuses[0]:,} not HTTP and disconnected" if statuses[0] else ""
    return ", ".join(f"{count:,} x {status}" for status, count in told.items()) + none
