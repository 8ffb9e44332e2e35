"""One request, one connection at a time: no request waits for a second one while it holds the first.

A pool of two would deadlock its process otherwise: two requests hold one each, and both wait for another.
So a request that asks for a second connection is refused at once, in development as under load. Where
its parts run concurrently (`asyncio.gather` over sessions of their own), each waits for its turn instead.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any
from weakref import ref

from ..errors import SecondConnectionError, WithdrawnError
from .limiter import Limiter

_REMEDY = (
    "A request uses one connection at a time, and another session of this request holds it. "
    "Pass that session on, or end its transaction first with commit() or rollback(), "
    "or do this work after the response in a background task."
)
_WITHDRAWN = (
    "The request that started this task or thread failed, and is run again from its beginning. "
    "Await what a request starts, for instance in a TaskGroup."
)


_FORGOTTEN = (
    "a request left a session or connection open, which other requests wait for: open it with `with`, "
    "or close it in a `finally`"
)

logger = logging.getLogger(__name__)


class Unit:
    """One request, for as long as it runs."""

    __slots__ = ("_places", "ended")

    def __init__(self) -> None:
        self._places: dict[Limiter, Place] = {}
        self.ended = False

    def place(self, limiter: Limiter) -> Place:
        """The request's one place among those of `limiter`."""
        place = self._places.get(limiter)
        if place is None:
            place = self._places.setdefault(limiter, Place(limiter))
        return place

    @property
    def is_idle(self) -> bool:
        """True if no part of the request holds a connection, or waits for one."""
        return not any(place.turns.used for place in self._places.values())

    def end(self) -> None:
        """Release the tasks and threads that outlive the request, and what it reserved or left open."""
        self.ended = True
        for place in self._places.values():
            place.give_up_reservation()
        if self._forgot:
            logger.warning(_FORGOTTEN)
        # Nothing else gives back what a forgotten session holds; it is a young one mostly.
        for generation in (1, 2):
            if self._forgot:
                gc.collect(generation)

    @property
    def _forgot(self) -> bool:
        return any(place.is_forgotten for place in self._places.values())


class Place:
    """The one place of a request among those of a limiter, and the part of the request that has it."""

    __slots__ = ("_holder", "is_held", "limiter", "loop", "record", "reserved", "turns")

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        # Parts of the request that run concurrently take turns.
        self.turns = Limiter(1, limiter.timeout_seconds)
        self.is_held = False
        # The event loop of the part that has it, and the connection, as its pool knows it.
        self.loop: asyncio.AbstractEventLoop | None = None
        self.record: Any = None
        # Taken ahead of the session that will need it.
        self.reserved = False
        self._holder: ref[_Part] | None = None

    @property
    def holder(self) -> _Part | None:
        """The part that has it; None if it has ended, and left it taken."""
        part = self._holder() if self._holder else None
        return part if part and not part.has_ended else None

    def hold(self, part: _Part) -> None:
        """Let `part` have the place, which was taken for it."""
        # Weakly: a thread's part lives as long as the context in which the thread's function runs.
        self._holder, self.loop, self.is_held = ref(part), part.loop, True

    def is_reserved_for(self, part: _Part) -> bool:
        """Take the place if it is reserved; refuse it to a part that would wait for itself."""
        if part.is_withdrawn:
            raise WithdrawnError(_WITHDRAWN)
        if self.is_held and (self.holder is None or part.is_within(self.holder)):
            raise SecondConnectionError(_REMEDY, self)
        reserved, self.reserved = self.reserved, False
        return reserved

    @property
    def is_forgotten(self) -> bool:
        """True if it is taken for no request; the request's tasks and threads may still be at work."""
        return self.is_held and (self.holder is None or not self.holder.is_apart)

    def give_up_reservation(self) -> None:
        """Give back a reserved place that no session came to need."""
        if self.reserved:
            self.reserved = False
            self.release()

    def release(self) -> None:
        """Give the place back to other requests, then to other parts of this one."""
        self._holder = self.record = self.loop = None
        self.is_held = False
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


class _Part:
    """The request's own flow of control, or a task or thread that it started."""

    __slots__ = ("__weakref__", "outer", "runs_in", "thread", "unit", "withdrawn")

    def __init__(self, unit: Unit, runs_in: object, outer: _Part | None = None) -> None:
        self.unit = unit
        self.outer = outer
        self.runs_in = runs_in
        # The worker thread that runs a function of this part just now.
        self.thread: int | None = None
        # Set once it is done anew: tasks that it left behind must not go on.
        self.withdrawn = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that runs it, if one does."""
        return self.runs_in.get_loop() if isinstance(self.runs_in, asyncio.Task) else None

    @property
    def has_ended(self) -> bool:
        """True if it was a task that is done; a thread's part ends with its context."""
        return isinstance(self.runs_in, asyncio.Task) and self.runs_in.done()

    @property
    def is_apart(self) -> bool:
        """True if this is a task or thread that the request started, or runs in a worker thread."""
        outermost = self
        while outermost.outer is not None:
            outermost = outermost.outer
        return self.thread is not None or self.runs_in is not outermost.runs_in

    @property
    def is_withdrawn(self) -> bool:
        """True if this part, or one that started it, is done anew."""
        part: _Part | None = self
        while part is not None and not part.withdrawn:
            part = part.outer
        return part is not None

    def is_within(self, other: _Part | None) -> bool:
        """True if the other one is this part or one that started it, and so may wait for it."""
        part: _Part | None = self
        while part is not None:
            if part is other:
                return True
            part = part.outer
        return False


_part: ContextVar[_Part | None] = ContextVar("part", default=None)
# The Database of the application that serves the request, for sessions that are opened without naming one; in
# tasks that outlive the request, too.
serving: ContextVar[Any] = ContextVar("serving", default=None)


@contextmanager
def one_unit(*, is_mounted: bool = False) -> Iterator[Unit]:
    """Let all that the block opens, in whatever task or thread, share one connection at a time.

    A request that another one makes in its own task (a mounted application's, a call of the application
    itself) is a part of that one.
    """
    begun = _part.get()
    # A server may start a request in the context of an earlier one, but not in its task.
    outer = current_part() if begun and (is_mounted or begun.runs_in is runner()) else None
    if outer is not None:
        yield outer.unit
        return
    unit = Unit()
    token = _part.set(_Part(unit, runner()))
    try:
        yield unit
    finally:
        unit.end()
        _part.reset(token)


@contextmanager
def one_try() -> Iterator[Callable[[], bool]]:
    """Run the block as a part of the request that may be done anew, once the function that is yielded agrees.

    It agrees if no task or thread of the block is at work with a connection; one that asks for a connection
    later is refused.
    """
    part = current_part()
    if part is None:
        yield lambda: True
        return
    tried = _Part(part.unit, part.runs_in, part)
    token = _part.set(tried)

    def withdraw() -> bool:
        tried.withdrawn = part.unit.is_idle
        return tried.withdrawn

    try:
        yield withdraw
    finally:
        _part.reset(token)


@contextmanager
def in_this_thread(part: _Part | None) -> Iterator[None]:
    """Run the block as `part`, in a worker thread that the part itself waits for."""
    if part is None:
        yield
        return
    part.thread = get_ident()
    try:
        yield
    finally:
        part.thread = None


@contextmanager
def as_part(part: _Part | None) -> Iterator[None]:
    """Run the block as a thread of `part`, where nothing else tells which request it belongs to."""
    if part is None or _part.get() is not None:
        yield
        return
    token = _part.set(part)
    try:
        yield
    finally:
        _part.reset(token)


def current_part() -> _Part | None:
    """The part of a request that runs here; None outside of requests, and once the request is over.

    A request that was cancelled is not over before its threads have given back what they hold.
    """
    part = _part.get()
    if part is None or (part.unit.ended and part.unit.is_idle):
        return None
    here = runner()
    if here in (part.runs_in, part.thread):
        return part
    # A task or thread that the request started, seen for the first time.
    inner = _Part(part.unit, here, part)
    _part.set(inner)
    return inner


def runner() -> object:
    """The task that runs, or the thread where none does."""
    try:
        return asyncio.current_task() or get_ident()
    except RuntimeError:
        return get_ident()
