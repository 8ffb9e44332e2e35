"""A budget of round trips: `with round_trips(2): ...` fails if the block makes more, or fewer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .trips import TRIPS, Cause
from .wire import is_supported

_SHOWN = 30
_WIDTH = 100


class RoundTripsError(AssertionError):
    """A block made more round trips than it may, or fewer; the message has the line of each."""


@dataclass
class RoundTrips:
    """The round trips of a block."""

    _begin: int
    _end: int | None = None

    @property
    def causes(self) -> list[Cause]:
        """The step of SQLAlchemy's that each belongs to, in order."""
        if self._end is None:
            TRIPS.settle()
        return TRIPS.causes[self._begin : self._end]

    @property
    def count(self) -> int:
        """The number so far."""
        return len(self.causes)

    def __str__(self) -> str:
        causes = self.causes
        lines = [f"{number:4} {_described(cause)}" for number, cause in enumerate(causes[:_SHOWN], 1)]
        if len(causes) > _SHOWN:
            lines.append(f"     ... and {len(causes) - _SHOWN} more")
        return "\n".join([*lines, *_advice(causes)])


@contextmanager
def round_trips(expected: int | None = None, *, at_most: int | None = None) -> Iterator[RoundTrips]:
    """Count the round trips of the block, on every SQLAlchemy engine that uses psycopg.

    Raise `RoundTripsError` unless there are exactly `expected`, or no more than `at_most`; without either
    they are only counted. The opening of a connection does not count. Raise ValueError for a budget that no
    block can keep.
    """
    __tracebackhide__ = True
    if (expected is not None and at_most is not None) or min(expected or 0, at_most or 0) < 0:
        raise ValueError("round_trips: takes one number. Write round_trips(2) or round_trips(at_most=2).")
    if not is_supported():
        pytest.skip("round_trips: are counted on Linux only, where libpq can write a trace.")
    with TRIPS.recording():
        trips = RoundTrips(len(TRIPS.causes))
        yield trips
        TRIPS.settle()
        trips._end = len(TRIPS.causes)  # noqa: SLF001  (its own maker)
    if expected is not None and trips.count != expected:
        raise RoundTripsError(f"round_trips({expected}): there were {trips.count}.\n{trips}")
    if at_most is not None and trips.count > at_most:
        raise RoundTripsError(f"round_trips(at_most={at_most}): there were {trips.count}.\n{trips}")


def _described(cause: Cause) -> str:
    what = cause.what if len(cause.what) <= _WIDTH else f"{cause.what[:_WIDTH]}..."
    if cause.lazy_load:
        what = f"lazy load of {cause.lazy_load}: {what}"
    if cause.refresh:
        what = f"expired {cause.refresh} read again: {what}"
    return f"{_near(cause.line) or '(no line of the application)'}\n       {what}"


def _near(line: str) -> str:
    """The line as seen from the working directory, which editors open by a click."""
    return line.removeprefix(f"{Path.cwd()}/")


def _advice(causes: list[Cause]) -> Iterator[str]:
    steps = list(dict.fromkeys(causes))
    for relation, times in Counter(step.lazy_load for step in steps if step.lazy_load).items():
        if times > 1:
            yield (
                f"N+1: {relation} was loaded {times} times, one row's at a time. "
                f"Load it with the query: .options(selectinload({relation}))"
            )
    for name, times in Counter(step.refresh for step in steps if step.refresh).items():
        if times > 1:
            yield (
                f"N+1: {times} rows of {name} were read again one by one, since a commit expired them. "
                "Make the session with expire_on_commit=False."
            )
