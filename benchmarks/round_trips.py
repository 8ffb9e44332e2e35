"""Round trips of each kind of request in each design, counted on the wire, TLS and passwords on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.designs import DESIGNS, NULL_POOL, Design
from benchmarks.entrypoints import Asked
from benchmarks.instance import EndedError, Instance
from benchmarks.options import Plan
from benchmarks.secure_pooler import url
from lib.onetrip.health.probe import CACHE_SECONDS
from tests.onetrip.fault_proxy import Proxy

HEALTH = "health"
WARM: dict[str, Asked] = {
    "read one row": ("GET", "/items/1", None),
    "two independent reads": ("GET", "/items/1/pair", None),
    "write one row": ("POST", "/items", {"title": "new"}),
    "ORM: add, commit, return": ("POST", "/items/orm", {"title": "new"}),
    "read, modify, write": ("PATCH", "/items/1", {"status": "done"}),
    "50 inserts": ("POST", "/items/bulk", {"count": 50}),
    HEALTH: ("GET", "/health/db", None),
}
FIRST = "first request of a process"
AGAIN = "next request after the server closed the connection"
CASES = [*WARM, FIRST, AGAIN]
ROUTES = ("pooled", "direct")


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Count the round trips by endpoint, design and case; None for a failed request."""
    found: dict[str, Any] = {route: {} for route in ROUTES}
    runs = [(route, design) for route in ROUTES for design in [*DESIGNS, NULL_POOL]]
    # Two at once: the counts do not depend on the load of the machine.
    with ThreadPoolExecutor(2) as threads:
        counted = threads.map(lambda run: _flights(plan, run[1], plan.endpoints.port(run[0])), runs)
        for number, ((route, design), flights) in enumerate(zip(runs, counted, strict=True), 1):
            found[route][design.name] = flights
            plan.progress(f"{route}, {design.name}", number / len(runs))
    yield {"cases": CASES, "flights": found}


def _flights(plan: Plan, design: Design, port: int) -> dict[str, int | None]:
    with Proxy(("127.0.0.1", port)).running() as proxy:
        try:
            runs = [_run(proxy, design) for _ in range(plan.choose(3, 1))]
        except EndedError:
            # Some peers do not start: behind a pooler, other clients took the names of their prepared statements.
            return dict.fromkeys(CASES)
    return {case: _fewest([run[case] for run in runs]) for case in CASES}


def _fewest(counts: list[int | None]) -> int | None:
    """Return the fewest: a burst that the server answers in its middle is sometimes counted twice."""
    known = [count for count in counts if count is not None]
    return min(known) if len(known) == len(counts) else None


def _run(proxy: Proxy, design: Design) -> dict[str, int | None]:
    connections = proxy.connections
    with proxy.counting() as flights, Instance(design.module, url(proxy.port)) as instance:
        succeeded = instance.ask().succeeded
        # Queries at startup, and a round trip of TCP for each connection, are included.
        first = flights() + proxy.connections - connections
        counts = {FIRST: first if succeeded else None}
        for case, asked in WARM.items():
            # The number of executions after which psycopg prepares a statement.
            instance.ask(asked, times=6)
            if case == HEALTH:
                # Ours is remembered for that long.
                time.sleep(CACHE_SECONDS * 1.1)
            counts[case] = _counted(proxy, instance, asked)
        proxy.hang_up()
        counts[AGAIN] = _counted(proxy, instance, WARM["read one row"])
    return counts


def _counted(proxy: Proxy, instance: Instance, asked: Asked) -> int | None:
    connections = proxy.connections
    with proxy.counting() as flights:
        batch = instance.ask(asked)
    return flights() + proxy.connections - connections if batch.succeeded else None
