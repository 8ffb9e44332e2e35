"""The preamble of a transaction: BEGIN, limits, settings and guard, sent with the first statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from psycopg.abc import Buffer
from psycopg.adapt import PyFormat, Transformer

from ..deadlines import Deadline, current_deadline
from .protocol import Message

if TYPE_CHECKING:
    # A process that connects while it imports has no time for SQLAlchemy yet.
    from sqlalchemy.engine.interfaces import IsolationLevel

LOCK_TIMEOUT_SHARE = 0.5
IDLE_IN_TRANSACTION_SECONDS = 30.0
# A transaction ends this much later than its first statement would: an ended statement leaves the session.
_TRANSACTION_MARGIN_MS = 100
_TRANSACTION_TIMEOUT_SINCE = 170_000
# Shorter limits are rounded to 10 ms, longer ones to 100.
_FINE_BELOW_MS = 1000
Statement = tuple[str, Sequence[Any]]


@dataclass(slots=True, eq=False)
class Preamble:
    """The options of one connection for its next transaction or statement."""

    isolation_level: IsolationLevel | None = None
    read_only: bool = False
    deferrable: bool = False
    autocommit: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    # Asked by each transaction after its settings; where it fails, so does the statement.
    guard: Statement | None = None
    # The next statement is its transaction's last: the COMMIT goes with it.
    last: bool = False
    # The COMMIT went with a statement; the rest of the same unit of work can only read.
    ended: bool = False
    # The next statement is sent without a preamble.
    alone: bool = False

    def of_caller(self, encoding: str) -> list[Message]:
        """The caller's settings and guard."""
        messages = [_settings_message(self.settings, encoding)] if self.settings else []
        return [*messages, _guard_message(self.guard)] if self.guard else messages


@lru_cache(maxsize=64)
def begin_message(level: str | None, *, read_only: bool | None, deferrable: bool | None) -> Message:
    """BEGIN with what is set; None leaves the choice to the server."""
    words = ["BEGIN"]
    if level:
        words.append(f"ISOLATION LEVEL {level}")
    if read_only is not None:
        words.append("READ ONLY" if read_only else "READ WRITE")
    if deferrable is not None:
        words.append("DEFERRABLE" if deferrable else "NOT DEFERRABLE")
    return Message(" ".join(words).encode())


COMMIT = Message(b"COMMIT")
ROLLBACK = Message(b"ROLLBACK")


def limits_message(server_version: int, *, read_only: bool, deadline: Deadline | None = None) -> Message:
    """The server's own limits for a transaction that begins now; stricter ones that are in force stay."""
    deadline = deadline or current_deadline()
    milliseconds = _rounded(deadline.statement_timeout_ms()) if deadline else None
    return _limits_message(milliseconds, server_version >= _TRANSACTION_TIMEOUT_SINCE, read_only)


def _rounded(milliseconds: int) -> int:
    """A little less, so that the statement's text repeats and both sides may keep what they made of it."""
    step = 10 if milliseconds < _FINE_BELOW_MS else 100
    return milliseconds // step * step or milliseconds


@lru_cache(maxsize=1024)
def _limits_message(statement_ms: int | None, has_transaction_timeout: bool, read_only: bool) -> Message:  # noqa: FBT001
    rows = [f"('{name}', {ms})" for name, ms in _limits(statement_ms, has_transaction_timeout).items()]
    # Of both limits the stricter one; 0 stands for none.
    in_force = "nullif(extract(epoch FROM current_setting(name)::interval) * 1000, 0)"
    calls = [f"set_config(name, least({in_force}, ms)::int::text, true)"]
    if read_only:
        calls.append("set_config('transaction_read_only', 'on', true)")
    text = f"SELECT {', '.join(calls)} FROM (VALUES {', '.join(rows)}) AS limits (name, ms)"  # noqa: S608  (all of it ours)
    return Message(text.encode())


def _limits(statement_ms: int | None, has_transaction_timeout: bool) -> dict[str, int]:  # noqa: FBT001
    """Milliseconds by parameter.

    Waiting for a lock may take half of what is left; a client that is frozen inside a transaction
    must not hold its locks and its server connection for longer than the idle limit.
    """
    # A statement whose client has gone would run on to its end, holding its locks.
    limits = {"client_connection_check_interval": 1000}
    if statement_ms is None:
        return limits
    idle_ms = int(IDLE_IN_TRANSACTION_SECONDS * 1000)
    limits |= {
        "statement_timeout": statement_ms,
        "lock_timeout": max(1, int(statement_ms * LOCK_TIMEOUT_SHARE)),
        "idle_in_transaction_session_timeout": min(idle_ms, max(1000, statement_ms)),
    }
    if has_transaction_timeout:
        # Later statements of the transaction would each get the whole of the first one's time.
        limits["transaction_timeout"] = statement_ms + _TRANSACTION_MARGIN_MS
    return limits


def _settings_message(settings: Mapping[str, str], encoding: str) -> Message:
    """The statement that sets run-time parameters until the transaction ends."""
    calls = ", ".join(f"set_config(${n}, ${n + 1}, true)" for n in range(1, 2 * len(settings), 2))
    # Not by the connection's adapters, which are its user's.
    values = [str(text).encode(encoding) for pair in settings.items() for text in pair]
    return Message(f"SELECT {calls}".encode(), values)


def _guard_message(guard: Statement) -> Message:
    text, values = guard
    adapted = Transformer()
    dumped: Sequence[Buffer | None] = adapted.dump_sequence(values, [PyFormat.AUTO] * len(values))
    return Message(_numbered(text), dumped, adapted.types, adapted.formats)


@lru_cache(maxsize=64)
def _numbered(text: str) -> bytes:
    """The text with `$1` in place of the first `%s`, and so on."""
    head, *rest = text.split("%s")
    parts = [head, *(f"${number}{part}" for number, part in enumerate(rest, 1))]
    return "".join(parts).replace("%%", "%").encode()
