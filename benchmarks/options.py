"""The options of a benchmark: servers, random seed, thoroughness, and progress callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from benchmarks.environment_note import SEED
from benchmarks.secure_pooler import Endpoints

T = TypeVar("T")


def _nobody(_what: str, _share: float) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class Plan:
    """The options of one run; `progress` gets the current measurement and the share that is done."""

    endpoints: Endpoints
    # For what is made during the run.
    folder: Path
    quick: bool = False
    progress: Callable[[str, float], None] = _nobody
    random: Random = field(default_factory=lambda: Random(SEED))

    def choose(self, thorough: T, quick: T) -> T:
        """Return the first value in a full run, the second in a quick one."""
        return quick if self.quick else thorough
