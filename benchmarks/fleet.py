"""A fleet: many instances of one design in few processes, each with an engine of its own.

    python -m benchmarks.fleet ours postgresql://... 500 5 2.0

makes 500 instances ask 5 times, every 2 seconds, and prints the outcomes of the requests.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from anyio.to_thread import current_default_thread_limiter

from benchmarks.entrypoints import AsgiEntrypoint
from benchmarks.environment_note import SEED, spread
from benchmarks.instance import READ

PROCESSES = 5
Outcome = tuple[int, float]


async def live(
    entrypoint: AsgiEntrypoint, requests: int, every_seconds: float, begin: float
) -> list[Outcome]:
    """Run one instance from its start time on; return the status and milliseconds of each request."""
    due = begin + random.random() * every_seconds
    outcomes = []
    for number in range(requests):
        await asyncio.sleep(max(0.0, due + number * every_seconds - time.monotonic()))
        start = time.perf_counter()
        status = await entrypoint(READ)
        outcomes.append((status, (time.perf_counter() - start) * 1000))
    return outcomes


async def _lives(apps: list[Any], requests: int, every_seconds: float) -> list[Outcome]:
    # A real instance has a thread for its request; here instances share a process.
    current_default_thread_limiter().total_tokens = len(apps)
    begin = time.monotonic()
    lives = [live(AsgiEntrypoint(app), requests, every_seconds, begin) for app in apps]
    return [outcome for part in await asyncio.gather(*lives) for outcome in part]


def _process(number: int, module: str, url: str, order: tuple[int, int, float]) -> list[Outcome]:
    instances, requests, every_seconds = order
    random.seed(SEED + number)
    # Log lines are written and discarded.
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (until the process ends)
    create_app = importlib.import_module(f"benchmarks.peers.{module}").create_app
    apps = [create_app(url) for _ in range(instances)]
    ready.wait()
    return asyncio.run(_lives(apps, requests, every_seconds))


def main(module: str, url: str, instances: int, requests: int, every_seconds: float) -> None:
    """Run the fleet and print its report."""
    global ready  # noqa: PLW0603  (handed to the processes by forking)
    forking = multiprocessing.get_context("fork")
    ready = forking.Barrier(PROCESSES)
    # Imported once, before the processes are forked.
    importlib.import_module(f"benchmarks.peers.{module}")
    order = (instances // PROCESSES, requests, every_seconds)
    with forking.Pool(PROCESSES) as processes:
        parts = processes.starmap(
            _process, [(number, module, url, order) for number in range(PROCESSES)], chunksize=1
        )
    outcomes = [outcome for part in parts for outcome in part]
    succeeded = [milliseconds for status, milliseconds in outcomes if status == 200]
    report = {
        "requests": len(outcomes),
        "failed": len(outcomes) - len(succeeded),
        "statuses": Counter(str(status) for status, _ in outcomes),
        "ms": spread(succeeded, 1) if succeeded else None,
    }
    print(json.dumps(report))


ready: Any = None

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
