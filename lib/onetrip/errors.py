"""The errors that the package raises itself."""

from __future__ import annotations

from collections.abc import Sequence


class SettingsError(Exception):
    """The environment cannot be used; `problems` holds one line for each variable."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class PoolExhaustedError(Exception):
    """No connection of this process became free in time."""


class UsageError(Exception):
    """The application used the package in a way that cannot work; the text names the remedy, and no data."""


class SecondConnectionError(UsageError):
    """A request asked for a second connection while it held one; `place` is what holds it."""

    def __init__(self, text: str, place: object = None) -> None:
        super().__init__(text)
        self.place = place


class WithdrawnError(UsageError):
    """A task asked for a connection after its request had failed and was run again."""


class EndedSessionError(UsageError):
    """A session was used after its unit of work had ended."""


class ConcurrentUseError(UsageError):
    """A session was used by two tasks or threads at once."""


class SecretError(Exception):
    """The secret that holds the database's URL could not be read; `passes` if another try may help.

    The text names the variable and the remedy, and is for logs.
    """

    def __init__(self, text: str, *, passes: bool = False) -> None:
        super().__init__(text)
        self.passes = passes


class DeadlineExceededError(Exception):
    """The deadline was over before the work was done."""
