"""How long this process took to become useful, phase by phase.

Import this module first: what it can't see is only the interpreter's own start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

# What every start has; a phase that did not happen (yet) took no time that could be told.
PHASES = ("settings", "secret", "imports", "connect", "first_query")


@dataclass
class ColdStart:
    """The phases of one process's start, in milliseconds, and the requests served since."""

    initialized_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.perf_counter)
    phases_ms: dict[str, float] = field(default_factory=dict)
    # When each of them began, counted from `began`.
    starts_ms: dict[str, float] = field(default_factory=dict)
    requests: int = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as `name`; only the first time that it succeeds counts."""
        begin = time.perf_counter()
        yield
        if name not in self.phases_ms:
            self.phases_ms[name] = _milliseconds(begin)
            self.starts_ms[name] = round((begin - self.began) * 1000, 3)

    @property
    def report_ms(self) -> dict[str, float | None]:
        """Every phase's milliseconds, None for what did not happen."""
        return {**dict.fromkeys(PHASES), **self.phases_ms}


def _milliseconds(begin: float) -> float:
    return round((time.perf_counter() - begin) * 1000, 3)


cold_start = ColdStart()
