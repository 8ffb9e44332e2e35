"""Instructions of a warm request, layer by layer, and of a cold start, which no other load on the machine changes.

They are counted by valgrind's callgrind, where it is installed. Each layer is a route that does one step
more than the one above it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import cold_start
from benchmarks.deployed_environment import python_in
from benchmarks.designs import NO_DATABASE, OURS, RAW_ASYNCPG, RAW_PSYCOPG, SESSION_MANAGER, TEMPLATE, Design
from benchmarks.entrypoints import Asked
from benchmarks.instance import READ, EntrypointName, Instance
from benchmarks.options import Plan
from benchmarks.secure_pooler import url
from tests.onetrip.environment import PROJECT

LAYERS: dict[str, Asked] = {
    "no database asked": ("GET", "/health/live", None),
    "a `def` route": ("GET", "/layers/route/1", None),
    "+ a reading session": ("GET", "/layers/session/1", None),
    "+ its connection": ("GET", "/layers/connection/1", None),
    "+ a query as text": ("GET", "/layers/text/1", None),
    "`session.get`": READ,
    "`session.get` in a transaction": ("GET", "/layers/transaction/1", None),
    "`session.get`, async session": ("GET", "/layers/async/1", None),
    "a compiled query": ("GET", "/compiled/1", None),
    "a compiled query, no session": ("GET", "/sessionless/1", None),
}
OTHERS = [NO_DATABASE, TEMPLATE, RAW_ASYNCPG, RAW_PSYCOPG]
# Each call of this function of the C library's, as `os.getppid`, makes callgrind write what it has counted.
MARK = "getppid"
WARM_UP, REQUESTS = 12, 40


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Thousands of instructions for each request, by entrypoint, layer and design."""
    found: dict[str, Any] = {"counted": shutil.which("valgrind") is not None, "thousands": {}}
    entrypoints: list[EntrypointName] = plan.choose(["lambda", "asgi"], ["lambda"])
    if not found["counted"]:
        yield found
        return
    for index, entrypoint in enumerate(entrypoints):
        plan.progress(entrypoint, index / len(entrypoints))
        designs = plan.choose(OTHERS, OTHERS[:1])
        with ThreadPoolExecutor(2) as threads:
            layers = threads.submit(_counted, plan, OURS, entrypoint, list(LAYERS.values()))
            others = threads.map(lambda design: _counted(plan, design, entrypoint, [READ]), designs)  # noqa: B023
            found["thousands"][entrypoint] = {
                **dict(zip((design.name for design in designs), (k for (k,) in others), strict=True)),
                **{f"{OURS.name}, {name}": k for name, k in zip(LAYERS, layers.result(), strict=True)},
            }
        yield found
    if not plan.quick:
        plan.progress("cold start", 0.6)
        found["start_millions"] = _starts(plan)
        yield found


def _starts(plan: Plan) -> dict[str, int]:
    """Millions of instructions from the start of a process to its first row, by design."""
    cold_start.compile_all()
    python = python_in(plan.folder / "deployed")
    ports = {name: plan.endpoints.port(name) for name in ("pooled", "direct")}
    others = {NO_DATABASE.name, TEMPLATE.name, SESSION_MANAGER.name}
    shown = [cold_start.ONE, cold_start.OUR_ENTRYPOINTS[0]]
    shown += [design for design in cold_start.OTHERS if design.name in others]

    def counted(design: cold_start.Design) -> int:
        command, environment = cold_start.starting(design, ports, python)
        # The first start fills the disk's cache.
        subprocess.run(command, check=True, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL)
        with tempfile.TemporaryDirectory() as home:
            out = Path(home) / "out"
            under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
            outcome = subprocess.run(
                [*under, *command], check=True, cwd=PROJECT, env=environment, capture_output=True
            )
            if not outcome.stdout.startswith(b"200"):
                raise RuntimeError(f"{design.name} answered {outcome.stdout[:4]!r}")
            return round(_total(out) / 1e6)

    with ThreadPoolExecutor(2) as threads:
        return dict(zip((design.name for design in shown), threads.map(counted, shown), strict=True))


def _counted(plan: Plan, design: Design, entrypoint: EntrypointName, asked: list[Asked]) -> list[int]:
    """Thousands of instructions for each request of these, in a process of their own."""
    with tempfile.TemporaryDirectory() as home:
        out = Path(home) / "out"
        under = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
        address = url(plan.endpoints.port(design.endpoint))
        with Instance(design.module, address, entrypoint, {"PYTHONHASHSEED": "0"}, under=under) as instance:
            for each in asked:
                instance.ask(each, times=WARM_UP)
            for each in asked:
                # The dumps before and after it are the instance's own.
                if not instance.ask(each, times=REQUESTS).succeeded:
                    raise RuntimeError(f"{design.name} refused {each[1]}")
        dumps = sorted(Path(home).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        # One dump ahead of each batch and one behind it; what runs between two batches is in the former.
        totals = [_total(path) for path in dumps][1::2]
    return [round(total / REQUESTS / 1000) for total in totals[len(asked) : 2 * len(asked)]]


def _total(path: Path) -> int:
    found = re.search(r"^totals: (\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError("callgrind wrote no totals")
    return int(found[1])
