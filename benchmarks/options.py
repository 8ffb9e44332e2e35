"""What a benchmark is given: the servers, the dice, how thorough it shall be, whom to tell how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from benchmarks.environment_note import SEED
from benchmarks.secure_pooler import Endpoints

T = TypeVar("T")


def _nobody(_what: str, _share: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Plan:
    """One run; `progress` is called with what is measured now, and which share of all is done."""

    endpoints: Endpoints
    quick: bool = False
    progress: Callable[[str, float], None] = _nobody
    random: Random = field(default_factory=lambda: Random(SEED))

    def choose(self, thorough: T, quick: T) -> T:
        """How many, how long, which: in a full run, or in a quick one."""
        return quick if self.quick else thorough
