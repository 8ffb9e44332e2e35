"""Cold start: from the start of a process to its first row, for each design and network.

Each round starts every design once on every network, in a new order. Each of our entrypoints starts right
after the same application without a connection, so that other load on the machine affects both.
"""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import designs
from benchmarks.delay_proxy import delayed
from benchmarks.deployed_environment import python_in
from benchmarks.environment_note import spread
from benchmarks.options import Plan
from benchmarks.secure_pooler import url
from tests.example.conftest import authorization
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY, PROJECT, clean_environment

OURS = "/api/v1/users/1"
ALIVE = "/health/live"
ITEM = "/items/1"
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "api", "AWS_REGION": "us-east-1"}
# Nothing listens there: the early connection ends as soon as it begins.
NO_SERVER = dict.fromkeys(("DATABASE_URL", "DATABASE_URL_UNPOOLED"), "postgresql://a:b@127.0.0.1:1/c")
# The target: no later than this much of the same process's first answer without a connection, and
# one round trip.
TARGET_RATIO = 1.05


@dataclass(frozen=True)
class Network:
    """A network: the round trip to the server and its wake-up, in milliseconds."""

    round_trip_ms: int
    wake_up_ms: int = 0

    @property
    def name(self) -> str:
        """The heading of the table's column."""
        wakes = f" + {self.wake_up_ms} ms wake-up" if self.wake_up_ms else ""
        return f"{self.round_trip_ms} ms{wakes}"


Found = dict[str, dict[str, list[float]]]
NETWORKS = [Network(0), Network(2), Network(10), Network(30), Network(10, 500)]


@dataclass(frozen=True)
class Design:
    """An application: its entrypoint, and the path of a request that returns a row, or none."""

    name: str
    entrypoint: str
    path: str
    variables: dict[str, str] = field(default_factory=dict)
    # The reference: the same process without a connection.
    reference: str | None = None


OUR_ENTRYPOINTS = [
    Design(
        "Vercel's entrypoint", "api.index:app", OURS, {"VERCEL": "1"}, "Vercel's entrypoint, never connecting"
    ),
    Design("Vercel's entrypoint, never connecting", "api.index:app", ALIVE, {"VERCEL": "1", **NO_SERVER}),
    Design(
        "Lambda's entrypoint", "api.aws_lambda:handler", OURS, LAMBDA, "Lambda's entrypoint, never connecting"
    ),
    Design("Lambda's entrypoint, never connecting", "api.aws_lambda:handler", ALIVE, {**LAMBDA, **NO_SERVER}),
]
ONE = Design("this project, one endpoint", "benchmarks.peers.ours_one:app", ITEM, {"VERCEL": "1"})
OTHERS = [
    Design(design.name, f"{design.package}:create_app", ITEM)
    for design in [*designs.PEERS, *designs.LIMITS, designs.NO_DATABASE]
]
DESIGNS = [*OUR_ENTRYPOINTS, ONE, *OTHERS]
ALONE = designs.NO_DATABASE.name
# The most that a start takes, by that of FastAPI alone with one endpoint.
BY_ALONE = {ONE.name: 1.85, "Vercel's entrypoint": 2.0, "Lambda's entrypoint": 2.0}
ENDPOINTS = {design.name: design.endpoint for design in [*designs.PEERS, *designs.LIMITS]}


def compile_all() -> None:
    """Have the bytecode that a package brings, where Python itself may be told to write none."""
    for room in ("api", "lib", "benchmarks"):
        compileall.compile_dir(PROJECT / room, quiet=1)


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """The milliseconds of each design on each network, in each round so far, and its memory."""
    compile_all()
    networks = plan.choose(NETWORKS, [NETWORKS[2]])
    found: Found = {design.name: {network.name: [] for network in networks} for design in DESIGNS}
    memory: dict[str, list[float]] = {design.name: [] for design in DESIGNS}
    speeds = [(network.round_trip_ms, network.wake_up_ms) for network in networks]
    rounds = plan.choose(8, 1)
    # A quick run takes the environment that it runs in.
    python = python_in(plan.folder / "deployed") if not plan.quick else sys.executable
    with (
        delayed(plan.endpoints.pooler.port, speeds) as pooled,
        delayed(plan.endpoints.direct.port, speeds) as direct,
    ):
        for number in range(plan.choose(-1, 0), rounds):
            for index in plan.random.sample(range(len(networks)), len(networks)):
                # The first round fills the disk's cache, and the tables and poolers of all.
                for design in _shuffled(plan) if number >= 0 or index == 0 else []:
                    ports = {"pooled": pooled[index], "direct": direct[index]}
                    taken, megabytes = first_answer(design, ports, python)
                    if number >= 0:
                        found[design.name][networks[index].name].append(round(taken, 1))
                        memory[design.name].append(megabytes)
            plan.progress(f"round {number + 1}", (number + 1) / rounds)
    shown: dict[str, Any] = {
        name: {network: spread(taken, 1) for network, taken in on.items()} for name, on in found.items()
    }
    yield {
        "networks": [network.name for network in networks],
        "rounds": found,
        "ms": shown,
        "memory_mb": {name: round(statistics.median(each), 1) for name, each in memory.items()},
        "by_target": _by_target(found, networks),
        "packages": "requirements.txt" if not plan.quick else "those of development",
    }


def _shuffled(plan: Plan) -> Iterator[Design]:
    """Return the designs in a new order, each of our entrypoints right after its reference."""
    named = {design.name: design for design in DESIGNS}
    references = {design.reference for design in DESIGNS}
    for design in plan.random.sample(DESIGNS, len(DESIGNS)):
        if design.reference:
            yield named[design.reference]
        if design.name not in references:
            yield design


def first_answer(design: Design, ports: dict[str, int], python: str) -> tuple[float, float]:
    """Measure the milliseconds from the start of a process to its answer, and its peak memory in MB."""
    command, environment = starting(design, ports, python)
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT, env=environment) as process:
        assert process.stdout is not None
        said = process.stdout.read(4)
        milliseconds = (time.perf_counter() - begin) * 1000
        kilobytes = process.stdout.read()
    if said.strip() != b"200":
        raise RuntimeError(f"{design.name} answered {said!r}")
    return milliseconds, int(kilobytes) / 1024


def starting(design: Design, ports: dict[str, int], python: str) -> tuple[list[str], dict[str, str]]:
    """The command that starts a design and asks for its row, and its environment."""
    variables = {
        "DATABASE_URL": url(ports[ENDPOINTS.get(design.name, "pooled")]),
        "DATABASE_URL_UNPOOLED": url(ports["direct"]),
        "JWT_SECRET_KEY": JWT_SECRET_KEY,
        "JWT_ISSUER": JWT_ISSUER,
    }
    environment = clean_environment(**{**variables, **design.variables})
    token = authorization(1)["Authorization"].partition(" ")[2]
    return [python, "benchmarks/first_answer.py", design.entrypoint, design.path, token], environment


def _by_target(found: Found, networks: list[Network]) -> dict[str, dict[str, dict[str, float]]]:
    """Compare each entrypoint with its target: by the median of pairs, and by the best runs."""
    return {
        design.name: {
            "pairs' median": {at.name: round(_paired(found, design, at), 2) for at in networks},
            "best runs": {at.name: round(_best(found, design, at), 2) for at in networks},
        }
        for design in DESIGNS
        if design.reference
    }


def by_alone(found: Found) -> dict[str, dict[str, float]]:
    """Compare each design's starts with those of FastAPI alone in the same rounds."""

    def compared(name: str, network: str) -> float:
        pairs = zip(found[name][network], found[ALONE][network], strict=True)
        return round(statistics.median(own / alone for own, alone in pairs), 2)

    return {name: {network: compared(name, network) for network in on} for name, on in found.items()}


def _target_ms(answer_ms: float, network: Network) -> float:
    return TARGET_RATIO * answer_ms + network.round_trip_ms


def _taken(found: Found, design: Design, network: Network) -> tuple[list[float], list[float]]:
    assert design.reference is not None
    return found[design.name][network.name], found[design.reference][network.name]


def _paired(found: Found, design: Design, network: Network) -> float:
    pairs = zip(*_taken(found, design, network), strict=True)
    return statistics.median(row / _target_ms(answer, network) for row, answer in pairs)


def _best(found: Found, design: Design, network: Network) -> float:
    rows, answers = _taken(found, design, network)
    return min(rows) / _target_ms(min(answers), network)
