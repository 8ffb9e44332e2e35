"""How soon an answer can be here, learned from the answers that came."""

from __future__ import annotations

# The shortest round trip is believed to grow by this share of each longer one.
_WEIGHT = 0.01


class RoundTrip:
    """The seconds of the shortest round trip of late."""

    def __init__(self) -> None:
        self.seconds = 1.0

    def note(self, seconds: float) -> None:
        """Learn from one: at once if it is shorter, slowly if it is longer."""
        if seconds < self.seconds:
            self.seconds = seconds
        elif seconds < 4 * self.seconds:
            self.seconds += _WEIGHT * (seconds - self.seconds)
