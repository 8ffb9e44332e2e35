"""Cold start timing: the phases between the start of the process and its first answer.

Import this module first: only the start of the interpreter comes before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

# The phases of every start; one that has not happened (yet) is reported as None.
PHASES = ("settings", "secret", "imports", "connect", "first_query")


@dataclass(eq=False)
class ColdStart:
    """The phases of a process's start, in milliseconds, and the number of requests served since."""

    initialized_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.perf_counter)
    phases_ms: dict[str, float] = field(default_factory=dict)
    # Milliseconds from `began` to the start of each phase.
    starts_ms: dict[str, float] = field(default_factory=dict)
    requests: int = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as phase `name`. Only its first success counts."""
        begin = time.perf_counter()
        yield
        if name not in self.phases_ms:
            self.phases_ms[name] = _milliseconds(begin)
            self.starts_ms[name] = round((begin - self.began) * 1000, 3)

    @property
    def report_ms(self) -> dict[str, float | None]:
        """Milliseconds by phase; None for a phase that has not happened."""
        return {**dict.fromkeys(PHASES), **self.phases_ms}


def _milliseconds(begin: float) -> float:
    return round((time.perf_counter() - begin) * 1000, 3)
