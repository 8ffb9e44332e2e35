"""What leaves with the next statement of a connection: BEGIN, settings, and sometimes the COMMIT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg.pq import TransactionStatus

from ..deadlines import current_deadline

if TYPE_CHECKING:
    # A process that connects while it imports has no time for SQLAlchemy yet.
    from sqlalchemy.engine.interfaces import IsolationLevel

LOCK_TIMEOUT_SHARE = 0.5
IDLE_IN_TRANSACTION_SECONDS = 30.0
Statement = tuple[str, list[str]]


@dataclass(slots=True)
class Flight:
    """What leaves with the next statement of one connection."""

    isolation_level: IsolationLevel | None = None
    read_only: bool = False
    deferrable: bool = False
    autocommit: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    # What each transaction asks first, after its settings; where it fails, so does the statement.
    companion: Statement | None = None
    # Within SQLAlchemy's transaction, a statement that finds none on the server begins it.
    begins: bool = False
    commits: bool = False
    # The COMMIT went along with a statement; what follows in the same unit of work can only read.
    ended: bool = False
    alone: bool = False

    def opened(self) -> None:
        """Note that SQLAlchemy's transaction begins."""
        self.begins, self.ended = True, False

    def closed(self) -> None:
        """Note that SQLAlchemy's transaction is over."""
        self.begins = self.ended = False

    def companions(self, status: TransactionStatus) -> list[Statement]:
        """What the next statement takes along: nothing, unless it is the first outside a transaction."""
        if self.alone or status != TransactionStatus.IDLE:
            return []
        if self.autocommit or self.ended:
            return self._settings()
        return [(self._begin(), []), *self._settings()] if self.begins else []

    def advance(self, status: TransactionStatus) -> list[Statement]:
        """What is sent ahead of a statement that cannot share a flight (COPY, a server-side cursor).

        Settings made ahead need a transaction to hold in, so a reading session gets one too.
        """
        if self._only_reads and status == TransactionStatus.IDLE:
            return [(self._begin(), []), *self._settings()]
        return [] if self.autocommit else self.companions(status)

    @property
    def writes_by_itself(self) -> bool:
        """Whether the next statement commits what it does, so that a lost answer leaves it unknown."""
        return self.commits or (self.autocommit and not self.read_only)

    @property
    def _only_reads(self) -> bool:
        return self.ended or (self.autocommit and self.read_only)

    def _begin(self) -> str:
        level = f" ISOLATION LEVEL {self.isolation_level}" if self.isolation_level else ""
        access = " READ ONLY" if self.read_only or self.ended else ""
        return f"BEGIN{level}{access}{' DEFERRABLE' if self.deferrable else ''}"

    def _settings(self) -> list[Statement]:
        settings = {**timeouts(), **self.settings}
        if self._only_reads:
            settings["transaction_read_only"] = "on"
        return [settings_statement(settings), *([self.companion] if self.companion else [])]


def timeouts() -> dict[str, str]:
    """The server's own limits, in milliseconds, for a transaction that begins now.

    Waiting for a lock may take half of what is left; a client that is frozen inside a transaction
    must not hold its locks and its server connection for longer than the idle limit.
    """
    deadline = current_deadline()
    idle_ms = int(IDLE_IN_TRANSACTION_SECONDS * 1000)
    # A statement whose client has gone would run on to its end, holding its locks.
    limits = {"client_connection_check_interval": "1000"}
    if deadline is None:
        return limits | {"idle_in_transaction_session_timeout": str(idle_ms)}
    statement_ms = deadline.statement_timeout_ms()
    return limits | {
        "statement_timeout": str(statement_ms),
        "lock_timeout": str(max(1, int(statement_ms * LOCK_TIMEOUT_SHARE))),
        "idle_in_transaction_session_timeout": str(min(idle_ms, max(1000, statement_ms))),
    }


def settings_statement(settings: Mapping[str, str]) -> Statement:
    """The one statement that sets run-time parameters until the transaction ends."""
    calls = ", ".join(["set_config(%s, %s, true)"] * len(settings))
    return f"SELECT {calls}", [text for pair in settings.items() for text in pair]
