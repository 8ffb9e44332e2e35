"""Places for connections: within a request the one that it has, elsewhere any of the limiter's."""

from __future__ import annotations

from collections.abc import Callable

from .limiter import Limiter
from .unit import Place, current_part

# What was taken; `release()` gives it back.
Claim = Place | Limiter


def claim_now(limiter: Limiter) -> Claim | None:
    """Take a place for one connection if that needs no waiting; refuse a request that holds one already."""
    part = current_part()
    if part is None:
        return limiter if limiter.try_acquire() else None
    place = part.unit.place(limiter)
    if not place.is_reserved_for(part):
        if not place.turns.try_acquire():
            return None
        if not limiter.try_acquire():
            place.turns.release()
            return None
    place.hold(part)
    return place


def claim(limiter: Limiter) -> Claim:
    """Take a place for one connection.

    Waits in this thread if there is none; refuses a request that holds one already.
    """
    part = current_part()
    if part is None:
        limiter.acquire()
        return limiter
    place = part.unit.place(limiter)
    if not place.is_reserved_for(part):
        place.turns.acquire()
        with place.turn():
            limiter.acquire()
    place.hold(part)
    return place


async def claim_async(limiter: Limiter) -> Claim:
    """`claim` for async code."""
    part = current_part()
    if part is None:
        await limiter.acquire_async()
        return limiter
    place = part.unit.place(limiter)
    if not place.is_reserved_for(part):
        await place.turns.acquire_async()
        with place.turn():
            await limiter.acquire_async()
    place.hold(part)
    return place


async def reserve(limiter: Limiter) -> Callable[[], None]:
    """Take a place for a sync session of this request that will need one, without a thread that waits.

    Returns the function that gives it back if no session came to need it.
    """
    part = current_part()
    if part is None:
        return _nothing
    place = part.unit.place(limiter)
    if place.reserved or place.is_held:
        return _nothing
    await place.turns.acquire_async()
    with place.turn():
        await limiter.acquire_async()
    place.reserved = True
    return place.give_up_reservation


def _nothing() -> None: ...
