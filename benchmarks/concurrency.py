"""Answers a second of one process that serves many requests at once, on several networks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks import http_server
from benchmarks.delay_proxy import delayed
from benchmarks.designs import DESIGNS, OURS, RAW_ASYNCPG, RAW_PSYCOPG, SQLMODEL, TEMPLATE, Design
from benchmarks.entrypoints import Asked
from benchmarks.environment_note import spread
from benchmarks.instance import READ, Batch, Instance
from benchmarks.latency import held_ms
from benchmarks.options import Plan
from benchmarks.secure_pooler import url

AT_ONCE = (1, 10, 50, 128)
# The number of clients of a real HTTP server.
CLIENTS = 50
ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """A design with settings of its own."""

    name: str
    design: Design
    variables: dict[str, str] = field(default_factory=dict)
    asked: Asked = READ


SHARED = Case(f"{OURS.name}, shared reads", OURS, {"DATABASE_SHARED_READS": "on"})
COMPILED_READ: Asked = ("GET", "/sessionless/1/async", None)
COMPILED = Case(f"{OURS.name}, shared reads, compiled", OURS, SHARED.variables, COMPILED_READ)
OWN = Case(OURS.name, OURS, {"DATABASE_SHARED_READS": "off"})
# Ours with as many connections as a busy process has requests.
WIDE = Case(f"{OURS.name}, pool of 10", OURS, {"DATABASE_SHARED_READS": "off", "DATABASE_POOL_SIZE": "10"})
PEERS = [Case(design.name, design) for design in (TEMPLATE, SQLMODEL, RAW_ASYNCPG, RAW_PSYCOPG)]
CASES = [OWN, SHARED, COMPILED, WIDE, *PEERS]
SERVED = [OWN, SHARED, PEERS[0], PEERS[-1]]


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Answers a second, times, processor time and held connections by round trip and concurrency."""
    delays = plan.choose([0, 2, 10, 30], [10])
    found: dict[str, Any] = {
        "at_once": plan.choose(AT_ONCE, AT_ONCE[1:3]),
        "clients": CLIENTS,
        "asgi": {str(delay): {} for delay in delays},
        "http": {str(delay): {} for delay in delays},
    }
    networks = [(delay, 0) for delay in delays]
    with (
        delayed(plan.endpoints.pooler.port, networks) as pooled,
        delayed(plan.endpoints.direct.port, networks) as direct,
    ):
        for index, delay in enumerate(delays):
            ports = {
                "pooled": pooled[index] if delay else plan.endpoints.pooler.port,
                "direct": direct[index] if delay else plan.endpoints.direct.port,
            }
            plan.progress(f"{delay} ms", index / len(delays))
            found["asgi"][str(delay)] = _rounds(plan, ports, found["at_once"])
            for case in plan.choose(SERVED, SERVED[:1]):
                plan.progress(f"{delay} ms, HTTP, {case.name}", (index + 0.8) / len(delays))
                seconds = plan.choose(1.5, 0.4)
                database = url(ports[case.design.endpoint])
                taken = http_server.measured(case.design, database, case.variables, CLIENTS, seconds)
                found["http"][str(delay)][case.name] = taken
            yield found


def _rounds(plan: Plan, ports: dict[str, int], sizes: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """The best round of each case and size: other load on the machine disturbs that least."""
    cases = plan.choose(CASES, [OWN, SHARED, PEERS[-1]])
    found: dict[str, dict[str, Any]] = {case.name: {} for case in cases}
    with ExitStack() as stack:
        started = [
            (case, Instance(case.design.module, url(ports[case.design.endpoint]), variables=case.variables))
            for case in cases
        ]
        instances = [(case, stack.enter_context(instance)) for case, instance in started]
        for size in sizes:
            for case, instance in instances:
                instance.ask(case.asked, times=size, at_once=size)
            for _ in range(plan.choose(ROUNDS, 1)):
                for case, instance in plan.random.sample(instances, len(instances)):
                    best = found[case.name].get(str(size))
                    if best and best["failed"]:
                        # Its clients wait for half a minute each.
                        continue
                    told = _round(plan, case, instance, size, ports[case.design.endpoint])
                    if best is None or told["per_second"] > best["per_second"]:
                        found[case.name][str(size)] = told
    return found


def _round(plan: Plan, case: Case, instance: Instance, size: int, port: int) -> dict[str, Any]:
    before, began = held_ms(plan), time.perf_counter()
    batch = instance.ask(case.asked, at_once=size, seconds=plan.choose(0.5, 0.4))
    held = (held_ms(plan) - before) / 1000 / (time.perf_counter() - began)
    if case.design.endpoint == "direct":
        # Without a pooler a connection is held as long as it is open.
        held = instance.connections_to(port)
    return {**_told(batch), "connections": round(held, 2)}


def _told(batch: Batch) -> dict[str, Any]:
    answered = sum(count for status, count in batch.statuses.items() if status.startswith("2"))
    asked = len(batch.milliseconds)
    return {
        "per_second": round(answered / batch.seconds, 1),
        "failed": round(1 - answered / asked, 4),
        "cpu_ms": round(batch.cpu_ms / asked, 3),
        **spread(batch.milliseconds),
    }


if not {case.design.name for case in PEERS} <= {design.name for design in DESIGNS}:
    raise AssertionError("a peer is no design")
