"""CloudWatch's embedded metric format: a log line of Lambda's that is a set of metrics as well.

Nothing is sent and nothing needs flushing: CloudWatch reads the metrics from the log.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import Any

NAMESPACE = "onetrip"
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
    """Return the members that make the log line of a request CloudWatch metrics of the function."""
    members = {
        "function": function,
        "errors": int((line.get("status") or 500) >= 500 or line.get("error") is not None),  # noqa: PLR2004
        "cold_starts": int(bool(line.get("cold_start"))),
    }
    described = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [_directive()]}
    return {**members, "_aws": described}


def metrics_text(*, function: str, failed: bool, is_first: bool) -> str:
    """The same members as JSON, to be put at the end of such a line."""
    return (
        f', "function": {function}, "errors": {failed:d}, "cold_starts": {is_first:d}, '
        f'"_aws": {{"Timestamp": {time.time_ns() // 1_000_000}, "CloudWatchMetrics": [{_directive_text()}]}}'
    )


@lru_cache
def _directive() -> dict[str, Any]:
    metrics = [{"Name": name, "Unit": unit} for name, unit in UNITS.items()]
    return {"Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": metrics}


@lru_cache
def _directive_text() -> str:
    return json.dumps(_directive())
