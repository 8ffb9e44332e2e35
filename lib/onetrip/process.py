"""The state that lives once in a process: the times of its start, its settings, its database.

The modules that own these types put their values here, so that one place forgets them. Importing it costs
no more than the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Generic, TypeVar

from . import forks
from .cold_start import ColdStart

if TYPE_CHECKING:
    from .connection.early import EarlyConnection
    from .pool.database import Database
    from .settings.settings import Settings

T = TypeVar("T")


class Once(Generic[T]):
    """A value that is made on first use, once even if threads ask together."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._making = RLock()

    def get(self, make: Callable[[], T]) -> T:
        """Return the value, made by `make` if there is none."""
        if self._value is None:
            with self._making:
                if self._value is None:
                    self._value = make()
        return self._value

    def forget(self) -> T | None:
        """Return the value, if it was made, and let the next use make another."""
        value, self._value = self._value, None
        return value

    def forked(self) -> None:
        """Let a child process use the value though a thread of its parent was making it."""
        self._making = RLock()


class Process:
    """The cold start's times, settings, database and early connection of this process."""

    def __init__(self) -> None:
        self.cold_start = ColdStart()
        self.settings: Once[Settings] = Once()
        self.database: Once[Database] = Once()
        self.early_connection: EarlyConnection | None = None

    def reset(self) -> None:
        """Begin anew: close what is open, and let the next use read the environment again."""
        database, early = self.database.forget(), self.early_connection
        if database:
            database.close()
        if early:
            early.close()
        self.early_connection = None
        self.settings.forget()
        self.cold_start = ColdStart()

    def forked(self) -> None:
        """Leave to the parent process what only it can use: its early connection, and its threads' locks."""
        self.early_connection = None
        self.database.forked()
        self.settings.forked()


process = Process()
forks.after_in_child(process.forked)
