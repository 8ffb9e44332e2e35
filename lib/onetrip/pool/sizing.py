"""The number of connections one process keeps, and for how long: the decision in one table."""

from __future__ import annotations

import random
from typing import NamedTuple

from ..platform import Platform
from ..settings.settings import Settings

_RECYCLE_JITTER = 0.1


class PoolPlan(NamedTuple):
    """The number of connections one process keeps, and for how long."""

    size: int
    max_overflow: int
    timeout_seconds: float
    recycle_seconds: float


# The connections that a process may hold at once; "null" keeps none of them between requests.
# Instances x (size + overflow) must stay below what the server takes: 10,000 clients behind Neon's
# pooler, so 5,000 instances of 2. Recycling at 240 s stays below Neon's suspension after 300 s.
PLANS: dict[str, PoolPlan] = {
    "tiny": PoolPlan(size=2, max_overflow=0, timeout_seconds=10, recycle_seconds=240),
    "server": PoolPlan(size=5, max_overflow=5, timeout_seconds=10, recycle_seconds=1800),
    "null": PoolPlan(size=2, max_overflow=0, timeout_seconds=10, recycle_seconds=240),
}


def pool_kind(settings: Settings) -> str:
    """The pool's kind: as set, or by platform."""
    return settings.database_pool or ("tiny" if settings.platform.is_serverless else "server")


def pool_plan(settings: Settings) -> PoolPlan:
    """The pool that `settings` ask for on their platform."""
    plan = plan_for(pool_kind(settings), settings.platform)
    given = {name: getattr(settings, f"pool_{name}") for name in PoolPlan._fields}
    return plan._replace(**{name: value for name, value in given.items() if value is not None})


def plan_for(kind: str, platform: Platform) -> PoolPlan:
    """The pool of a kind on a platform, with nothing set."""
    # Managed instances fork a worker for each concurrent request, and each has a pool of its own.
    forks = platform.name == "lambda-managed-instances"
    return PLANS[kind]._replace(size=1) if forks else PLANS[kind]


def with_jitter(seconds: float) -> float:
    """A part of the age is random, so that instances born together do not reconnect together."""
    return seconds * random.uniform(1 - _RECYCLE_JITTER, 1)  # noqa: S311  (no secret)
