"""Places for connections: within a request the one that it has, elsewhere any of the limiter's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from .limiter import Limiter
from .place import Place, free_reservations, refuse_standstill
from .unit import current_part, opener, runner


class Other:
    """A place of what belongs to no request: a script's, or of a task that outlived its request."""

    __slots__ = ("limiter", "task")

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        task = runner()
        self.task = task if isinstance(task, asyncio.Task) else None
        limiter.others.add(self)

    def release(self) -> None:
        """Give the place back."""
        self.limiter.others.discard(self)
        self.limiter.release()


# What was taken; `release()` gives it back.
Claim = Place | Other


def claim_now(limiter: Limiter) -> Claim | None:
    """Take a place for one connection if that needs no waiting; refuse a request that holds one already."""
    part = current_part()
    if part is None:
        return Other(limiter) if limiter.try_acquire() else None
    place = part.unit.place(limiter)
    if not place.is_reserved_for(part) and not place.try_take():
        return None
    place.hold(part, opener.get())
    return place


def claim(limiter: Limiter) -> Claim:
    """Take a place for one connection.

    Waits in this thread if there is none; refuses a request that holds one already.
    """
    part = current_part()
    if part is None:
        limiter.acquire(partial(refuse_standstill, limiter))
        return Other(limiter)
    place = part.unit.place(limiter)
    if not place.is_reserved_for(part):
        place.turns.acquire(partial(place.refuse, part))
        with place.turn():
            limiter.acquire(partial(free_reservations, limiter))
    place.hold(part, opener.get())
    return place


async def claim_async(limiter: Limiter) -> Claim:
    """`claim` for async code."""
    part = current_part()
    if part is None:
        await limiter.acquire_async(partial(refuse_standstill, limiter))
        return Other(limiter)
    place = part.unit.place(limiter)
    if not place.is_reserved_for(part):
        await place.turns.acquire_async(partial(place.refuse, part))
        with place.turn():
            await limiter.acquire_async(partial(free_reservations, limiter))
    place.hold(part, opener.get())
    return place


def holds_one(limiter: Limiter) -> bool:
    """True if this request has a place already, so that what it waits for must not need another one."""
    part = current_part()
    place = part.unit.known_place(limiter) if part else None
    return place is not None and (place.is_held or place.is_reserved)


async def reserve(limiter: Limiter) -> Callable[[], None]:
    """Take a place for a sync session of this request that will need one, without a thread that waits.

    Returns the function that gives it back if no session came to need it.
    """
    part = current_part()
    if part is None:
        return _nothing
    place = part.unit.place(limiter)
    if place.is_reserved or place.is_held:
        return _nothing
    if not place.try_take():
        await place.turns.acquire_async()
        with place.turn():
            await limiter.acquire_async(partial(free_reservations, limiter))
    place.reserve()
    return place.give_up_reservation


def _nothing() -> None: ...
