"""One request, one connection at a time: no request waits for a second one while it holds the first.

A pool of two would deadlock its process otherwise: two requests hold one each, and both wait for another.
So a request that asks for a second connection is refused at once, in development as under load. Where
its parts run concurrently (`asyncio.gather` over sessions of their own), each waits for its turn instead.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from contextvars import ContextVar, Token
from threading import get_ident
from typing import Any, Self

from .limiter import Limiter
from .place import Place

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

    def known_place(self, limiter: Limiter) -> Place | None:
        """The same, if it was asked for before."""
        return self._places.get(limiter)

    @property
    def is_idle(self) -> bool:
        """True if no part of the request holds a connection, or waits for one."""
        return not any(place.turns.used for place in self._places.values())

    def end(self) -> None:
        """Release the tasks and threads that outlive the request, and what it reserved or left open."""
        self.ended = True
        if not self._places:
            return
        for place in self._places.values():
            place.give_up_reservation()
        if self.forgotten:
            logger.warning(_FORGOTTEN)
        # Nothing else gives back what a lost session holds; it is a young one mostly.
        for generation in (1, 2):
            if self.forgotten:
                gc.collect(generation)

    @property
    def forgotten(self) -> list[Place]:
        """What the request holds at its end, and nothing that it started is still at work with."""
        return [place for place in self._places.values() if place.is_forgotten]


class Part:
    """The request's own flow of control, or a task or thread that it started."""

    __slots__ = ("__weakref__", "outer", "runs_in", "thread", "unit", "withdrawn")

    def __init__(self, unit: Unit, runs_in: object, outer: Part | None = None) -> None:
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
    def serving_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that serves the request; None for a part in a loop or thread of its own."""
        loop = self.loop
        return loop if loop is not None and loop is self._outermost.loop else None

    @property
    def is_apart(self) -> bool:
        """True if this is a task or thread that the request started, or runs in a worker thread."""
        return self.thread is not None or self.runs_in is not self._outermost.runs_in

    @property
    def _outermost(self) -> Part:
        part = self
        while part.outer is not None:
            part = part.outer
        return part

    @property
    def is_withdrawn(self) -> bool:
        """True if this part, or one that started it, is done anew."""
        part: Part | None = self
        while part is not None and not part.withdrawn:
            part = part.outer
        return part is not None

    def is_within(self, other: Part | None) -> bool:
        """True if the other one is this part or one that started it, and so may wait for it."""
        part: Part | None = self
        while part is not None:
            if part is other:
                return True
            part = part.outer
        return False


_part: ContextVar[Part | None] = ContextVar("part", default=None)
# The part that opened the session which asks for a connection, where that is known.
opener: ContextVar[Part | None] = ContextVar("opener", default=None)
# The Database of the application that serves the request, for sessions that are opened without naming one; in
# tasks that outlive the request, too.
serving: ContextVar[Any] = ContextVar("serving", default=None)


class one_unit:  # noqa: N801  (used like a function)
    """Let all that the block opens, in whatever task or thread, share one connection at a time.

    A request that another one makes in its own task (a mounted application's, a call of the application
    itself) is a part of that one; its own unit is None.
    """

    __slots__ = ("_is_mounted", "_token", "_unit")
    _token: Token[Part | None]

    def __init__(self, *, is_mounted: bool = False) -> None:
        self._is_mounted = is_mounted

    def __enter__(self) -> Unit | None:
        begun, here = _part.get(), runner()
        # A server may start a request in the context of an earlier one, but not in its task.
        outer = current_part() if begun and (self._is_mounted or begun.runs_in is here) else None
        self._unit = unit = None if outer else Unit()
        if unit:
            self._token = _part.set(Part(unit, here))
        return unit

    def __exit__(self, *_: object) -> None:
        if self._unit:
            self._unit.end()
            _part.reset(self._token)


class one_try:  # noqa: N801  (used like a function)
    """Run the block as a part of the request that may be done anew, once `withdraw` agrees."""

    __slots__ = ("_part", "_token")
    _token: Token[Part | None]

    def __enter__(self) -> Self:
        outer = current_part()
        self._part = Part(outer.unit, outer.runs_in, outer) if outer else None
        if self._part:
            self._token = _part.set(self._part)
        return self

    def __exit__(self, *_: object) -> None:
        if self._part:
            _part.reset(self._token)

    def withdraw(self) -> bool:
        """Agree if no task or thread of the block is at work with a connection.

        One that asks for a connection later is refused.
        """
        if self._part is None:
            return True
        self._part.withdrawn = self._part.unit.is_idle
        return self._part.withdrawn


class in_this_thread:  # noqa: N801  (used like a function)
    """Run the block as `part`, in a worker thread that the part itself waits for."""

    __slots__ = ("_part",)

    def __init__(self, part: Part | None) -> None:
        self._part = part

    def __enter__(self) -> None:
        if self._part:
            self._part.thread = get_ident()

    def __exit__(self, *_: object) -> None:
        if self._part:
            self._part.thread = None


class as_part:  # noqa: N801  (used like a function)
    """Run the block for a session that `part` opened, in whichever of its threads or tasks.

    Where nothing else tells which request a thread belongs to, the session does.
    """

    __slots__ = ("_opened", "_part", "_token")

    def __init__(self, part: Part | None) -> None:
        self._part = part

    def __enter__(self) -> None:
        if self._part:
            self._token = _part.set(self._part) if _part.get() is None else None
            self._opened = opener.set(self._part)

    def __exit__(self, *_: object) -> None:
        if self._part:
            opener.reset(self._opened)
            if self._token:
                _part.reset(self._token)


def current_part() -> Part | None:
    """The part of a request that runs here; None outside of requests, and once the request is over.

    A request that was cancelled is not over before its threads have given back what they hold.
    """
    part = _part.get()
    if part is None or (part.unit.ended and part.unit.is_idle):
        return None
    here = runner()
    if here == part.runs_in or here == part.thread:  # noqa: PLR1714  (no tuple for each call)
        return part
    # A task or thread that the request started, seen for the first time.
    inner = Part(part.unit, here, part)
    _part.set(inner)
    return inner


def runner() -> object:
    """The task that runs, or the thread where none does."""
    try:
        return asyncio.current_task() or get_ident()
    except RuntimeError:
        return get_ident()
