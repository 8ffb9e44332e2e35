"""Password hashes, computed a few at a time: a flood of logins leaves processors to other requests."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from lib.onetrip.fastapi.concurrency import runs_inline
from lib.onetrip.fastapi.problem_details import Refusal

P = ParamSpec("P")
R = TypeVar("R")

# Each takes a processor and 19 MiB; one processor is left to everything else.
HASHES_AT_ONCE = max(1, min(4, (os.cpu_count() or 1) - 1))
# More would wait too long; and one network's never take all the places.
WAITING_AT_MOST = 24
WAITING_OF_NETWORK = 6
RETRY_AFTER_SECONDS = 2

# Threads of its own: they belong to no event loop, and take none that routes wait for.
_threads = ThreadPoolExecutor(HASHES_AT_ONCE, "hashing")
_waiting: Counter[str] = Counter()


async def hashing(network: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Compute on a loop that serves nothing else, or in one of few threads; 429 if too many wait."""
    if runs_inline.get():
        return function(*args, **kwargs)
    if _waiting[network] >= WAITING_OF_NETWORK or _waiting.total() >= WAITING_AT_MOST:
        wait = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise Refusal(429, "too-many-logins", "Too many passwords are being checked. Try again.", wait)
    _waiting[network] += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_threads, partial(function, *args, **kwargs))
    finally:
        _waiting[network] -= 1
        if not _waiting[network]:
            del _waiting[network]
