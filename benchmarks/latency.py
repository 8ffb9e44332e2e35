"""Latency and throughput of a warm request with one query, on several networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.delay_proxy import delayed
from benchmarks.designs import DESIGNS, OURS, Design
from benchmarks.environment_note import spread
from benchmarks.instance import EndedError, EntrypointName, Instance
from benchmarks.options import Plan
from benchmarks.secure_pooler import url

# Round trip in milliseconds, and the number of requests in each round.
REQUESTS = {0: 40, 2: 20, 10: 8, 30: 4}
ENTRYPOINTS: tuple[EntrypointName, ...] = ("asgi", "lambda")
AT_ONCE = 10
# Ours also runs with as many connections as concurrent requests.
WIDE = "this project, pool of 10"
HOLD_ROUND_TRIP_MS = 10
# Designs whose throughput a quick run compares; its latencies use one entrypoint.
FEW = [OURS, DESIGNS[1], DESIGNS[-1]]


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Measure milliseconds by entrypoint, round trip and design; answers a second; the hold time."""
    delays = plan.choose([0, 2, 10, 30], [10])
    entrypoints = plan.choose(ENTRYPOINTS, ENTRYPOINTS[1:])
    found: dict[str, Any] = {
        "at_once": AT_ONCE,
        "latency_ms": {entrypoint: {str(delay): {} for delay in delays} for entrypoint in entrypoints},
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
            for entrypoint in entrypoints:
                plan.progress(f"{delay} ms, {entrypoint}", index / len(delays))
                found["latency_ms"][entrypoint][str(delay)] = _latencies(
                    plan, ports, entrypoint, REQUESTS[delay]
                )
                yield found
            plan.progress(f"{delay} ms, throughput", (index + 0.6) / len(delays))
            found["throughput"][str(delay)] = _throughputs(plan, ports)
            yield found
        port = pooled[delays.index(HOLD_ROUND_TRIP_MS)]
        found["hold"] = {"round_trip_ms": HOLD_ROUND_TRIP_MS, "ms": _holds(plan, port)}
        yield found


def _latencies(
    plan: Plan, ports: dict[str, int], entrypoint: EntrypointName, requests: int
) -> dict[str, Any]:
    taken: dict[str, list[float]] = {design.name: [] for design in DESIGNS}
    with ExitStack() as stack:
        started = [
            (design, Instance(design.module, url(ports[design.endpoint]), entrypoint)) for design in DESIGNS
        ]
        instances = [(design, stack.enter_context(instance)) for design, instance in started]
        for _, instance in instances:
            instance.ask(times=8)
        # Every design runs in each round, so that other load on the machine affects all.
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
        variables = {"DATABASE_SHARED_READS": "off"} if design in (wide, OURS) else {}
        if design is wide:
            variables["DATABASE_POOL_SIZE"] = str(AT_ONCE)
        with Instance(design.module, url(ports[design.endpoint]), variables=variables) as instance:
            instance.ask(times=AT_ONCE, at_once=AT_ONCE)
            batch = instance.ask(at_once=AT_ONCE, seconds=plan.choose(2.0, 0.4))
        if batch.succeeded:
            each = spread(batch.milliseconds)
            found[design.name] = {"per_second": round(len(batch.milliseconds) / batch.seconds, 1), **each}
    return found


def _holds(plan: Plan, port: int) -> dict[str, float]:
    """Measure the time that a request holds a server connection, by the pooler's counters."""
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
    """Return the milliseconds of all transactions in the pooler so far."""
    rows = plan.endpoints.pooler.show("STATS")
    return sum(float(str(row["total_xact_time"])) for row in rows if row["database"] == "postgres") / 1000
