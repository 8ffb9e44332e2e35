"""The conditions of a measurement, written beside every number."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("fastapi", "mangum", "sqlalchemy", "psycopg", "asyncpg", "sqlmodel")
SEED = 20_261_121


def conditions(*, quick: bool) -> dict[str, Any]:
    """The machine, the versions, the seed, and how busy the machine was as it began."""
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "seed": SEED,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "load_average_before": _load(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def finished(before: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The same, with how long it took and how busy the machine was at the end."""
    return {**before, "load_average_after": _load(), "seconds": round(seconds, 1)}


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, quartiles, the best and the 95th and 99th percentile of what was measured."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], digits)

    return {
        "n": len(ordered),
        "min": at(0),
        "p25": at(0.25),
        "median": round(statistics.median(ordered), digits),
        "p75": at(0.75),
        "p95": at(0.95),
        "p99": at(0.99),
    }


def _load() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
