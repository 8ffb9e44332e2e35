"""CloudWatch's embedded metric format: a log line of Lambda's that is a set of metrics as well.

Nothing is sent and nothing needs flushing: CloudWatch reads the metrics from the log.
"""

from __future__ import annotations

import time
from typing import Any

NAMESPACE = "FastAPIOnNeon"
# The members of a request's line that become metrics, with CloudWatch's names of their units.
UNITS = {
    "duration_seconds": "Seconds",
    "db_seconds": "Seconds",
    "pool_seconds": "Seconds",
    "connect_seconds": "Seconds",
    "round_trips": "Count",
    "connections": "Count",
    "errors": "Count",
    "cold_starts": "Count",
}


def metrics_of(line: dict[str, Any], function: str) -> dict[str, Any]:
    """What makes a request's line metrics of the function: its error and its cold start become numbers."""
    members = {
        "function": function,
        "errors": int((line.get("status") or 500) >= 500),  # noqa: PLR2004  (server errors)
        "cold_starts": int(bool(line.get("cold_start"))),
    }
    there = {**line, **members}
    metrics = [{"Name": name, "Unit": unit} for name, unit in UNITS.items() if name in there]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": metrics}
    return {**members, "_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}}
