"""Moments whose age is right across suspended machines and clocks that are set."""

from __future__ import annotations

import time
from typing import NamedTuple

# Suspended machines stop the monotonic clock.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Moment(NamedTuple):
    """A moment by the clock that goes on while the machine is suspended, and by the wall clock.

    Some platforms stop the first one; anyone may set the second one back.
    """

    since_boot: float
    wall: float

    @classmethod
    def now(cls) -> Moment:
        """The present moment."""
        return cls(time.clock_gettime(CLOCK), time.time())

    @property
    def age_seconds(self) -> float:
        """Seconds since then, by the clock that went further."""
        now = Moment.now()
        return max(now.since_boot - self.since_boot, now.wall - self.wall)
