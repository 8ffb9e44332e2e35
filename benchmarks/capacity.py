"""A capacity model: instances and requests that a compute takes, compared with the exhaustion runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Neon's computes: size in CU, and `max_connections`; its pooler takes this many clients.
COMPUTES = {0.25: 104, 0.5: 209, 1: 419, 2: 839, 4: 1678, 9: 4000}
POOLER_CLIENTS = 10_000
POOLER_SHARE = 0.9
# A queue forms before the last server connection is busy.
BUSY_AT_MOST = 0.7


@dataclass(frozen=True)
class Load:
    """Instances, each asking every so many seconds."""

    instances: int
    every_seconds: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.instances / self.every_seconds

    def busy_connections(self, hold_ms: float) -> float:
        """Server connections that are busy on average, each request holding one for `hold_ms` (Little)."""
        return self.per_second * hold_ms / 1000

    def failed_share_when_kept(self, connections: int) -> float:
        """Requests that fail where each instance keeps a server connection, and there are so many."""
        return max(0.0, 1 - connections / self.instances)


def per_second(max_connections: int, hold_ms: float) -> float:
    """Requests a second that a pooler in front of such a server passes on, with room for bursts."""
    return POOLER_SHARE * max_connections * BUSY_AT_MOST * 1000 / hold_ms


def smallest_compute(requests_per_second: float, hold_ms: float) -> float | None:
    """The smallest compute whose connections suffice, in CU; None if none does."""
    fit = (size for size, most in COMPUTES.items() if per_second(most, hold_ms) >= requests_per_second)
    return next(fit, None)


def checked(exhaustion: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the model with each exhaustion run.

    Designs that open a connection for each request are left out: the duration of a connect depends on
    the load of the server.
    """
    # One connection watches.
    connections = exhaustion["max_connections"] - 1
    rows = []
    for size, designs in exhaustion["instances"].items():
        load = Load(int(size), exhaustion["every_seconds"])
        for name, report in designs.items():
            if name.startswith("no pool"):
                continue
            pooled = exhaustion["endpoints"][name] == "pooled"
            rows.append(
                {
                    "instances": load.instances,
                    "design": name,
                    "failed_expected": 0.0 if pooled else load.failed_share_when_kept(connections),
                    "failed": report["failed"] / report["requests"],
                    "busy_expected": load.busy_connections(report["hold_ms"]) if pooled else None,
                    "connections": report["connections"],
                }
            )
    return rows
