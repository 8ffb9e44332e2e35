"""The place of a request among those of a limiter: who has it, and who is refused it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import ref

from ..errors import SecondConnectionError, WithdrawnError
from .limiter import Limiter, Turns

if TYPE_CHECKING:
    from .unit import Part

# A request that holds a connection and asks nothing of it for this long may be waiting for another one.
STANDS_STILL_SECONDS = 1.0

_REMEDY = (
    "A request uses one connection at a time, and another session of this request holds it. "
    "Pass that session on, or end its transaction first with commit() or rollback(), "
    "or do this work after the response in a background task."
)
_WITHDRAWN = (
    "The request that started this task or thread failed, and is run again from its beginning. "
    "Await what a request starts, for instance in a TaskGroup."
)
_ALL_STAND_STILL = (
    "Every connection is held by a request that asks nothing of it, so that they may be waiting for this "
    "thread, which does not know its request. Pass the request's session on, or end its transaction "
    "first with commit(), or start the thread with asyncio.to_thread or run_in_threadpool."
)


class Place:
    """The one place of a request among those of a limiter, and the part of the request that has it."""

    __slots__ = (*("_holder", "_opener", "_reserved", "is_held", "limiter", "loop", "record", "turns"),)

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        # Parts of the request that run concurrently take turns.
        self.turns = Turns(1, limiter.timeout_seconds)
        self.is_held = False
        # The event loop of the part that has it, and the connection, as its pool knows it.
        self.loop: asyncio.AbstractEventLoop | None = None
        self.record: Any = None
        # Of one member if it was taken ahead of the session that will need it; what pops it has it.
        self._reserved: list[float] = []
        self._holder: ref[Part] | None = None
        self._opener: ref[Part] | None = None

    def try_take(self) -> bool:
        """Take the place for this request if that needs no waiting."""
        if not self.turns.try_acquire():
            return False
        if not self.limiter.try_acquire():
            self.turns.release()
            return False
        return True

    @property
    def holder(self) -> Part | None:
        """The part that has it; None if it has ended, and left it taken."""
        return _alive(self._holder)

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task that has it."""
        holder = self.holder
        return holder.runs_in if holder and isinstance(holder.runs_in, asyncio.Task) else None

    @property
    def opener(self) -> Part | None:
        """The part that opened the session for which it was taken, and ends it."""
        return _alive(self._opener)

    def hold(self, part: Part, opener: Part | None) -> None:
        """Let `part` have the place, which was taken for it, for a session that `opener` opened."""
        # Weakly: a thread's part lives as long as the context in which the thread's function runs.
        self._holder, self._opener, self.loop = ref(part), ref(opener or part), part.loop
        self.is_held = True
        self.limiter.places.add(self)

    def is_reserved_for(self, part: Part) -> bool:
        """Take the place if it is reserved; refuse it to a part that would wait for itself."""
        self.refuse(part)
        return self._unreserve()

    def refuse(self, part: Part) -> None:
        """Raise if `part` would wait for itself, or for a session that a part left open which has ended."""
        if part.is_withdrawn:
            raise WithdrawnError(_WITHDRAWN)
        if not self.is_held:
            return
        opener = self.opener
        # A session of a part that has ended is ended by none but the request itself.
        if self.holder is None or opener is None or part.is_within(opener):
            raise SecondConnectionError(_REMEDY, self)

    @property
    def is_forgotten(self) -> bool:
        """True if it is taken for no request; the request's tasks and threads may still be at work."""
        return self.is_held and (self.holder is None or not self.holder.is_apart)

    @property
    def stands_still(self) -> bool:
        """True if its connection was asked nothing for a while."""
        driver = self.record.driver_connection if self.is_held and self.record else None
        if driver is None or driver.closed:
            return False
        from psycopg.pq import TransactionStatus  # noqa: PLC0415  (imported by its connection)

        is_asked = driver.transaction_status == TransactionStatus.ACTIVE
        return not is_asked and driver.idle_seconds >= STANDS_STILL_SECONDS

    @property
    def is_reserved(self) -> bool:
        """True if it is taken for a session that has not come yet."""
        return bool(self._reserved)

    def reserve(self) -> None:
        """Keep the place, which was taken, for a session that will need it."""
        self._reserved.append(time.monotonic())
        self.limiter.places.add(self)

    def give_up_reservation(self, after_seconds: float = 0.0) -> None:
        """Give back a reserved place that no session came to need in that time."""
        reserved = tuple(self._reserved)
        if reserved and time.monotonic() - reserved[0] >= after_seconds and self._unreserve():
            self.release()

    def _unreserve(self) -> bool:
        try:
            self._reserved.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Give the place back to other requests, then to other parts of this one."""
        self.is_held = False
        self._holder = self._opener = self.record = self.loop = None
        self.limiter.places.discard(self)
        self.limiter.release()
        self.turns.release()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Give the turn back if the block, which waits for the limiter, fails."""
        try:
            yield
        except BaseException:
            self.turns.release()
            raise


def free_reservations(limiter: Limiter) -> None:
    """Give back the places that were taken ahead, and not needed since."""
    for place in tuple(limiter.places):
        place.give_up_reservation(STANDS_STILL_SECONDS)


def refuse_standstill(limiter: Limiter) -> None:
    """Raise if what waits here may be what all that hold connections wait for."""
    free_reservations(limiter)
    places = tuple(limiter.places)
    if len(places) >= limiter.capacity and all(place.stands_still for place in places):
        raise SecondConnectionError(_ALL_STAND_STILL)


def _alive(part: ref[Part] | None) -> Part | None:
    found = part() if part else None
    return found if found and not found.has_ended else None
