"""Processor time of a warm request through Lambda's entrypoint, layer by layer, measured in pairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.designs import DESIGNS, NO_DATABASE, OURS
from benchmarks.entrypoints import Asked
from benchmarks.environment_note import spread
from benchmarks.instance import READ, Instance
from benchmarks.options import Plan
from benchmarks.secure_pooler import url

COMPILED = "this project, a compiled query"
SESSIONLESS = "this project, a compiled query, no session"
ALIVE: Asked = ("GET", "/health/live", None)
REQUESTS = 100
# The baselines of the layers: FastAPI and Mangum, then our middleware, then the query.
ALONE, MIDDLEWARE = "FastAPI and Mangum alone", "this project, no database asked"
# While a process waits for a database, others fill the processor's caches.
PAUSED, PAUSE_SECONDS = "FastAPI and Mangum alone, after a pause", 0.001


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Milliseconds of processor time for each request, and above FastAPI and Mangum alone after a pause."""
    cases = [
        (ALONE, NO_DATABASE, READ, 0.0),
        (PAUSED, NO_DATABASE, READ, PAUSE_SECONDS),
        (MIDDLEWARE, OURS, ALIVE, 0.0),
        (COMPILED, OURS, ("GET", "/compiled/1", None), 0.0),
        (SESSIONLESS, OURS, ("GET", "/sessionless/1", None), 0.0),
        *((design.name, design, READ, 0.0) for design in DESIGNS),
    ]
    taken: dict[str, list[float]] = {name: [] for name, *_ in cases}
    rounds = plan.choose(15, 2)
    with ExitStack() as stack:
        started = [
            (name, asked, pause, Instance(design.module, url(plan.endpoints.port(design.endpoint)), "lambda"))
            for name, design, asked, pause in cases
        ]
        instances = [
            (name, asked, pause, stack.enter_context(instance)) for name, asked, pause, instance in started
        ]
        for number in range(-1, rounds):
            for name, asked, pause, instance in plan.random.sample(instances, len(instances)):
                times = plan.choose(REQUESTS, REQUESTS // 2)
                batch = instance.ask(asked, times=times, pause_seconds=pause)
                if number >= 0 and batch.succeeded:
                    taken[name].append(batch.cpu_ms / len(batch.milliseconds))
            plan.progress("rounds", (number + 2) / (rounds + 1))
    yield {"cpu_ms": {name: {**spread(values), "above_alone": _above(values, taken[PAUSED])}
                      for name, values in taken.items() if values}}  # fmt: skip


def _above(values: list[float], alone: list[float]) -> float:
    """The median of what each batch took more than the same round's batch of FastAPI and Mangum alone after a pause."""
    pairs = [each - other for each, other in zip(values, alone, strict=False)]
    return spread(pairs)["median"]
