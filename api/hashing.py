"""Password hashes, computed a few at a time, so that a flood of logins leaves the processor to other requests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio

from lib.onetrip.fastapi.concurrency import blocks_nobody
from lib.onetrip.fastapi.problem_details import Refusal

P = ParamSpec("P")
R = TypeVar("R")

# Each takes a processor and 19 MiB; one processor is left to everything else.
HASHES_AT_ONCE = max(1, min(4, (os.cpu_count() or 1) - 1))
# More would wait too long; and one network's never take all the places.
WAITING_AT_MOST = 24
WAITING_OF_NETWORK = 6
RETRY_AFTER_SECONDS = 2

_limiter = anyio.CapacityLimiter(HASHES_AT_ONCE)
_waiting: Counter[str] = Counter()


async def hashing(network: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Compute here where the event loop serves nothing else, or in one of few worker threads; 429 if too many wait."""
    if blocks_nobody.get():
        return function(*args, **kwargs)
    if _waiting[network] >= WAITING_OF_NETWORK or _waiting.total() >= WAITING_AT_MOST:
        wait = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise Refusal(429, "too-many-logins", "Too many passwords are being checked. Try again.", wait)
    _waiting[network] += 1
    try:
        return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=_limiter)
    finally:
        _waiting[network] -= 1
        if not _waiting[network]:
            del _waiting[network]
