"""A warm request with one query: how long it takes, and how many are answered, on several networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.delay_proxy import delayed
from benchmarks.designs import DESIGNS, OURS, Design
from benchmarks.environment_note import spread
from benchmarks.instance import DoorName, EndedError, Instance
from benchmarks.options import Plan
from benchmarks.secure_pooler import url

# Round trip in milliseconds, and how many requests are made in each of the rounds.
REQUESTS = {0: 40, 2: 20, 10: 8, 30: 4}
DOORS: tuple[DoorName, ...] = ("asgi", "lambda")
AT_ONCE = 10
# Beside the pool of 2: what ours does with as many connections as requests at once.
WIDE = "this project, pool of 10"
HOLD_ROUND_TRIP_MS = 10
# Whom a quick run compares beyond the latency itself, for which it asks through one door.
FEW = [OURS, DESIGNS[1], DESIGNS[-1]]


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Milliseconds by door, round trip and design; answers a second; how long a connection is held."""
    delays = plan.choose([0, 2, 10, 30], [10])
    doors = plan.choose(DOORS, DOORS[1:])
    found: dict[str, Any] = {
        "at_once": AT_ONCE,
        "latency_ms": {door: {str(delay): {} for delay in delays} for door in doors},
        "throughput": {str(delay): {} for delay in delays},
    }
    networks = [(delay, 0) for delay in delays]
    with (
        delayed(plan.endpoints.pooler.port, networks) as pooled,
        delayed(plan.endpoints.direct.port, networks) as direct,
    ):
        for index, delay in enumerate(delays):
            # Without a delay, without the proxy.
            ports = {
                "pooled": pooled[index] if delay else plan.endpoints.pooler.port,
                "direct": direct[index] if delay else plan.endpoints.direct.port,
            }
            for door in doors:
                plan.progress(f"{delay} ms, {door}", index / len(delays))
                found["latency_ms"][door][str(delay)] = _latencies(plan, ports, door, REQUESTS[delay])
                yield found
            plan.progress(f"{delay} ms, throughput", (index + 0.6) / len(delays))
            found["throughput"][str(delay)] = _throughputs(plan, ports)
            yield found
        port = pooled[delays.index(HOLD_ROUND_TRIP_MS)]
        found["hold"] = {"round_trip_ms": HOLD_ROUND_TRIP_MS, "ms": _holds(plan, port)}
        yield found


def _latencies(plan: Plan, ports: dict[str, int], door: DoorName, requests: int) -> dict[str, Any]:
    taken: dict[str, list[float]] = {design.name: [] for design in DESIGNS}
    with ExitStack() as stack:
        started = [(design, Instance(design.module, url(ports[design.endpoint]), door)) for design in DESIGNS]
        instances = [(design, stack.enter_context(instance)) for design, instance in started]
        for _, instance in instances:
            instance.ask(times=8)
        # Every design in each round, so that what else the machine does meets all of them.
        for _ in range(plan.choose(8, 2)):
            for design, instance in plan.random.sample(instances, len(instances)):
                batch = instance.ask(times=requests)
                if batch.succeeded:
                    taken[design.name] += batch.milliseconds
    return {name: spread(values) for name, values in taken.items() if values}


def _throughputs(plan: Plan, ports: dict[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    wide = Design(OURS.module, WIDE, OURS.endpoint, OURS.kind)
    for design in [wide, *plan.choose(DESIGNS, FEW)]:
        variables = {"DATABASE_POOL_SIZE": str(AT_ONCE)} if design is wide else {}
        with Instance(design.module, url(ports[design.endpoint]), variables=variables) as instance:
            instance.ask(times=AT_ONCE, at_once=AT_ONCE)
            batch = instance.ask(at_once=AT_ONCE, seconds=plan.choose(2.0, 0.4))
        if batch.succeeded:
            each = spread(batch.milliseconds)
            found[design.name] = {"per_second": round(len(batch.milliseconds) / batch.seconds, 1), **each}
    return found


def _holds(plan: Plan, port: int) -> dict[str, float]:
    """How long a request holds a server connection, as the pooler counts it."""
    found: dict[str, float] = {}
    requests = plan.choose(20, 5)
    for design in plan.choose(DESIGNS, FEW):
        try:
            with Instance(design.module, url(port)) as instance:
                instance.ask(times=3)
                before = held_ms(plan)
                succeeded = instance.ask(times=requests).succeeded
                held = (held_ms(plan) - before) / requests
        except EndedError:
            continue
        if succeeded:
            found[design.name] = round(held, 3)
    return found


def held_ms(plan: Plan) -> float:
    """Milliseconds that transactions have lasted in the pooler so far."""
    rows = plan.endpoints.pooler.show("STATS")
    return sum(float(str(row["total_xact_time"])) for row in rows if row["database"] == "postgres") / 1000
