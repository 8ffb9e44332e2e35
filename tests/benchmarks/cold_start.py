"""From a process's start to the first row it answers with, beside other designs, on several networks.

    python -m tests.benchmarks.cold_start [rounds]

Each round starts every design once on every network, in an order of its own, and each of our doors
right after the same application without a connection, so that what else the machine does meets both.
Writes docs/benchmarks/cold_start.json, and the table in docs/benchmarks/cold-start.md.
"""

from __future__ import annotations

import compileall
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.secure_pooler import PASSWORD, Endpoints, endpoints
from tests.platforms.processes import clean_environment

PROJECT = Path(__file__).parent.parent.parent
RESULTS = PROJECT / "docs" / "benchmarks"
ROUNDS = 15
OURS = "/api/v1/users/1"
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "api", "AWS_REGION": "us-east-1"}
# The target: no later than this much of the same process's first answer without a connection, and
# one round trip.
TARGET_RATIO = 1.05


@dataclass(frozen=True)
class Network:
    """A round trip to the server, and how long that sleeps, in milliseconds."""

    round_trip_ms: int
    wake_up_ms: int = 0

    @property
    def name(self) -> str:
        """As the table's column says it."""
        wakes = f" + {self.wake_up_ms} ms wake-up" if self.wake_up_ms else ""
        return f"{self.round_trip_ms} ms{wakes}"


NETWORKS = [Network(0), Network(2), Network(10), Network(30), Network(10, 500)]


@dataclass(frozen=True)
class Design:
    """An application: its door, and a question whose answer is a row, or none."""

    name: str
    door: str
    path: str
    variables: dict[str, str] = field(default_factory=dict)
    # The design whose process is the same but for the connection.
    reference: str | None = None


DESIGNS = [
    Design("Vercel's door", "api.index:app", OURS, {"VERCEL": "1"}, "Vercel's door, never connecting"),
    Design("Vercel's door, never connecting", "api.index:app", "/health/live"),
    Design("Lambda's door", "api.aws_lambda:handler", OURS, LAMBDA, "Lambda's door, never connecting"),
    Design(
        "Lambda's door, never connecting",
        "api.aws_lambda:handler",
        "/health/live",
        {**LAMBDA, "AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"},
    ),
    Design("source documents' design", "tests.benchmarks.peers.source_design:app", "/users/1"),
    Design("FastAPI and SQLAlchemy, lazy engine", "tests.benchmarks.peers.lazy_engine:app", "/users/1"),
    Design("FastAPI without a database", "tests.benchmarks.peers.no_database:app", "/"),
]


@contextmanager
def delayed(port: int) -> Iterator[list[int]]:
    """Ports from which every network leads to `port`."""
    networks = [f"{network.round_trip_ms}:{network.wake_up_ms}" for network in NETWORKS]
    command = [sys.executable, "-m", "tests.benchmarks.delay_proxy", str(port), *networks]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout is not None
        try:
            yield [int(part) for part in process.stdout.readline().split()]
        finally:
            process.terminate()


def first_answer_ms(design: Design, pooled_port: int, direct_port: int) -> float:
    """Milliseconds from the start of a process to the first byte it says: its answer's status."""
    url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{{}}/postgres?sslmode=require"
    environment = clean_environment(
        DATABASE_URL=url.format(pooled_port),
        DATABASE_URL_UNPOOLED=url.format(direct_port),
        **design.variables,
    )
    command = [sys.executable, "tests/benchmarks/first_answer.py", design.door, design.path]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT, env=environment) as process:
        assert process.stdout is not None
        said = process.stdout.read(4)
        milliseconds = (time.perf_counter() - begin) * 1000
    if said.strip() != b"200":
        raise RuntimeError(f"{design.name} answered {said!r}")
    return milliseconds


Found = dict[str, dict[str, list[float]]]


def measure(servers: Endpoints, rounds: int) -> Iterator[Found]:
    """The milliseconds of each design on each network, in each round so far."""
    found: Found = {design.name: {network.name: [] for network in NETWORKS} for design in DESIGNS}
    named = {design.name: design for design in DESIGNS}
    references = {design.reference for design in DESIGNS}
    with delayed(servers.pooled_port) as pooled, delayed(servers.direct_port) as direct:
        for number in range(-1, rounds):
            for index in random.sample(range(len(NETWORKS)), len(NETWORKS)):
                for design in random.sample(DESIGNS, len(DESIGNS)):
                    group = [named[design.reference], design] if design.reference else [design]
                    for each in group if design.name not in references else []:
                        taken = first_answer_ms(each, pooled[index], direct[index])
                        # The first round fills the disk's cache, and the tables and poolers of all.
                        if number >= 0:
                            found[each.name][NETWORKS[index].name].append(round(taken, 1))
            print(f"round {number + 1} of {rounds}", flush=True)
            if number >= 0:
                yield found


def report(found: Found) -> str:
    """The table of medians, and how each door stands to its target, by medians and by the best runs."""
    header = ["median ms", *(network.name for network in NETWORKS)]
    rows = [
        [name, *(f"{statistics.median(taken):.0f}" for taken in networks.values())]
        for name, networks in found.items()
    ]
    shares = [
        [f"{design.name}, by its target: {name}", *(f"{share(found, design, at):.2f}" for at in NETWORKS)]
        for design in DESIGNS
        if design.reference
        for name, share in (("pairs' median", _paired), ("best runs", _best))
    ]
    lines = [header, ["---"] * len(header), *rows, *shares]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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


def write(found: Found) -> None:
    """Keep every number, and put the table where the document has its place for it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "machine": platform.machine(),
    }
    document = {"unit": "ms", **machine, "rounds": found}
    (RESULTS / "cold_start.json").write_text(json.dumps(document, indent=1) + "\n")
    page = RESULTS / "cold-start.md"
    rounds = len(next(iter(next(iter(found.values())).values())))
    table = (
        f"{report(found)}\n\nPython {machine['python']}, {machine['processors']} processors, {rounds} rounds."
    )
    place = re.compile(r"(?<=<!-- cold-start -->\n).*?(?=\n<!-- /cold-start -->)", re.DOTALL)
    page.write_text(place.sub(lambda _: table, page.read_text()))


def main() -> None:
    """Measure, write, and show."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    for room in ("api", "lib", "tests/benchmarks"):
        compileall.compile_dir(PROJECT / room, quiet=1)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        servers = stack.enter_context(endpoints(folder))
        for found in measure(servers, rounds):
            # Whoever stops it keeps what there is.
            write(found)
    print(report(found))


if __name__ == "__main__":
    main()
