"""Runs the benchmarks, writes their results, and draws them.

    python -m benchmarks [--quick | --draw] [round_trips latency ...]

Everything goes to docs/benchmarks; with --quick, fewer repetitions go to build/benchmarks instead.
--draw measures nothing: it writes pages and pictures anew from what is there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import (
    cold_start,
    concurrency,
    cpu,
    exhaustion,
    instructions,
    latency,
    pages,
    patterns,
    round_trips,
)
from benchmarks.environment_note import conditions, finished
from benchmarks.options import Plan
from benchmarks.secure_pooler import endpoints
from tests.onetrip.environment import PROJECT

BAR = 24


@dataclass(frozen=True)
class Benchmark:
    """A benchmark, and its seconds on two idle processors: a full run and a quick one."""

    measure: Callable[[Plan], Iterator[dict[str, Any]]]
    seconds: float
    quick_seconds: float


BENCHMARKS = {
    "round_trips": Benchmark(round_trips.measure, 80, 33),
    "patterns": Benchmark(patterns.measure, 60, 12),
    "latency": Benchmark(latency.measure, 410, 30),
    "concurrency": Benchmark(concurrency.measure, 300, 15),
    "cpu": Benchmark(cpu.measure, 35, 12),
    "instructions": Benchmark(instructions.measure, 200, 40),
    "exhaustion": Benchmark(exhaustion.measure, 380, 13),
    "cold_start": Benchmark(cold_start.measure, 470, 12),
}


class Progress:
    """A progress bar with the current measurement and the estimated time of the rest."""

    def __init__(self, names: list[str], *, quick: bool) -> None:
        self._seconds = {
            name: BENCHMARKS[name].quick_seconds if quick else BENCHMARKS[name].seconds for name in names
        }
        self._begin = time.monotonic()
        self._done = 0.0

    def within(self, name: str) -> Callable[[str, float], None]:
        """Return the callback by which a benchmark reports its progress."""
        return lambda what, share: self._show(f"{name}: {what}", self._done + share * self._seconds[name])

    def finished(self, name: str) -> None:
        """Note that a benchmark is over."""
        self._done += self._seconds[name]
        self._show(f"{name}: done", self._done)

    def _show(self, what: str, done: float) -> None:
        total = sum(self._seconds.values())
        taken = time.monotonic() - self._begin
        # The table above is used until enough is done to know this machine's pace.
        pace = taken / done if done > 0.05 * total else 1.0
        left = max(0.0, total - done) * pace
        share = min(1.0, done / total)
        bar = "#" * round(share * BAR)
        line = f"[{bar:<{BAR}}] {share:4.0%}  about {_spoken(left)} left  {what}"
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line}", end="", flush=True)
        else:
            print(line, flush=True)


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def run(names: list[str], folder: Path, *, quick: bool) -> None:
    """Run the named benchmarks, and write each result to `folder` as soon as it is known."""
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(names, quick=quick)
    home = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-"))
    # The servers may run as another user than root, which needs access.
    home.chmod(0o755)
    try:
        with endpoints(home) as servers:
            for name in names:
                before, begin = conditions(quick=quick), time.monotonic()
                plan = Plan(servers, home, quick, progress.within(name))
                for found in BENCHMARKS[name].measure(plan):
                    # An interrupted run keeps the results so far.
                    under = finished(before, time.monotonic() - begin)
                    document = {"benchmark": name, "conditions": under, **found}
                    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
                progress.finished(name)
    finally:
        shutil.rmtree(home)
    print()


def main() -> None:
    """Measure, then write pages and pictures."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", metavar="benchmark", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, into build/benchmarks")
    parser.add_argument("--draw", action="store_true", help="measure nothing, write pages and pictures anew")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - BENCHMARKS.keys():
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}: there are {', '.join(BENCHMARKS)}")
    folder = PROJECT / "build" / "benchmarks" if chosen.quick else pages.FOLDER
    if not chosen.draw:
        run(chosen.names or list(BENCHMARKS), folder, quick=chosen.quick)
    for path in pages.write(folder, with_documents=not chosen.quick):
        print(path.relative_to(PROJECT))


if __name__ == "__main__":
    main()
