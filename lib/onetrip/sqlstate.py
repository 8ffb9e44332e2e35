"""The meanings of database errors, by SQLSTATE, in words that leak nothing.

SQLAlchemy's and psycopg's errors pass through sessions as they are; `classify` says at the border
what they mean. It goes by SQLSTATE and by what the code was doing, never by class or message text,
which differ between versions and languages.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from .errors import DeadlineExceededError, PoolExhaustedError, SecretError, UsageError


class Kind(StrEnum):
    """The meaning of a database error to its client."""

    ALREADY_EXISTS = "already-exists"
    STILL_REFERENCED = "still-referenced"
    MISSING_REFERENCE = "missing-reference"
    INVALID_VALUE = "invalid-value"
    CONFLICT = "write-conflict"
    TIMEOUT = "timeout"
    UNAVAILABLE = "database-unavailable"
    BUSY = "busy"
    UNKNOWN = "outcome-unknown"
    READ_ONLY = "read-only"
    INTERNAL = "internal"


class Fault(NamedTuple):
    """A classified error: what it means, and the SQLSTATE that said so."""

    kind: Kind
    sqlstate: str | None = None


# Whole codes first, then classes (their first two characters).
KINDS: dict[str, Kind] = {
    "23505": Kind.ALREADY_EXISTS,  # unique_violation
    "23P01": Kind.ALREADY_EXISTS,  # exclusion_violation
    "23503": Kind.STILL_REFERENCED,  # foreign_key_violation; see _foreign_key
    "23001": Kind.STILL_REFERENCED,  # restrict_violation
    "23502": Kind.INVALID_VALUE,  # not_null_violation
    "23514": Kind.INVALID_VALUE,  # check_violation
    "22": Kind.INVALID_VALUE,  # data exceptions: too long, out of range, malformed
    "54000": Kind.INVALID_VALUE,  # program_limit_exceeded: a text too long for its index
    "40001": Kind.CONFLICT,  # serialization_failure
    "40P01": Kind.CONFLICT,  # deadlock_detected
    "57014": Kind.TIMEOUT,  # query_canceled: statement_timeout
    "25P03": Kind.TIMEOUT,  # idle_in_transaction_session_timeout
    "25P04": Kind.TIMEOUT,  # transaction_timeout
    "55P03": Kind.BUSY,  # lock_not_available: lock_timeout
    "25006": Kind.READ_ONLY,  # read_only_sql_transaction
    "08007": Kind.UNKNOWN,  # transaction_resolution_unknown: the answer to a COMMIT was lost
    "08": Kind.UNAVAILABLE,  # connection exceptions
    "53": Kind.UNAVAILABLE,  # out of connections, memory or disk
    "57P": Kind.UNAVAILABLE,  # starting up, shutting down, terminated
}
# Without a code the error is the driver's, not the server's. All others are mistakes of the program.
_CODELESS: dict[str, Kind] = {
    "DataError": Kind.INVALID_VALUE,  # a value that cannot be sent, such as a NUL in a text
    "OperationalError": Kind.UNAVAILABLE,  # no connection, or it was lost
    "InterfaceError": Kind.UNAVAILABLE,  # the connection is closed; a cursor that is closed is a mistake
}
# Client-side limits, which libpq reports as it reports a lost connection.
_CLIENT_LIMITS = ("number of parameters must be between", "message too large", "string is too long")
# Errors of Python's own for a value that cannot be converted on its way to the server.
_CONVERSION = (ValueError, LookupError, OverflowError)
_ASLEEP = frozenset({"57P03"})  # cannot_connect_now


def classify(error: BaseException) -> Fault | None:
    """The meaning of `error` if the database or its pool caused it, else None."""
    for cause in _chain(error):
        if kind := _own_kind(cause):
            return Fault(kind)
        if _is(cause, "psycopg", "Error"):
            return _classify_driver_error(cause, error)
    if _is_of_a_value(error):
        return Fault(Kind.INVALID_VALUE)
    return Fault(Kind.INTERNAL) if _is(error, "sqlalchemy.exc", "SQLAlchemyError") else None


def is_waking(error: BaseException) -> bool:
    """True if the server said that it is starting up, as a resumed compute does."""
    fault = classify(error)
    return fault is not None and fault.sqlstate in _ASLEEP


def reason(error: BaseException) -> str:
    """Why the database could not serve, in one line of who said so: for logs, never for an answer."""
    said = [str(cause) for cause in _chain(error) if not hasattr(cause, "orig")]
    lines = said[0].splitlines() if said else []
    return lines[0] if lines else type(error).__name__


def _own_kind(cause: BaseException) -> Kind | None:
    """The meaning of an error that is neither the server's nor the driver's."""
    if isinstance(cause, PoolExhaustedError) or _is(cause, "sqlalchemy.exc", "TimeoutError"):
        return Kind.BUSY
    if isinstance(cause, DeadlineExceededError):
        return Kind.TIMEOUT
    if isinstance(cause, SecretError):
        return Kind.UNAVAILABLE
    if isinstance(cause, UsageError):
        return Kind.INTERNAL
    # The version of a row (`version_id_col`) had moved on.
    return Kind.CONFLICT if _is(cause, "sqlalchemy.orm.exc", "StaleDataError") else None


def _classify_driver_error(cause: BaseException, error: BaseException) -> Fault:
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate is None:
        return Fault(_codeless(cause))
    if sqlstate == "23503":
        return Fault(_foreign_key(error), sqlstate)
    kinds = (KINDS.get(sqlstate[:length]) for length in (5, 3, 2))
    return Fault(next(filter(None, kinds), Kind.INTERNAL), sqlstate)


def _codeless(cause: BaseException) -> Kind:
    if any(limit in str(cause) for limit in _CLIENT_LIMITS):
        return Kind.INVALID_VALUE
    if _is(cause, "psycopg", "InterfaceError") and "connection" not in str(cause):
        return Kind.INTERNAL
    kind = next((kind for name, kind in _CODELESS.items() if _is(cause, "psycopg", name)), Kind.INTERNAL)
    # A value that is stored but cannot be read (a date after the year 9999) is no fault of the client's.
    return Kind.INTERNAL if kind is Kind.INVALID_VALUE and _raised_in(cause, "fetch") else kind


def _is_of_a_value(error: BaseException) -> bool:
    """True if a value could not be converted on its way to the server: by SQLAlchemy, or by the driver."""
    if _is(error, "sqlalchemy.exc", "StatementError"):
        orig = getattr(error, "orig", None)
        return isinstance(orig, _CONVERSION) and not isinstance(orig, KeyError)
    return isinstance(error, UnicodeEncodeError) and _raised_in(error, "do_execute")


def _raised_in(error: BaseException, function: str) -> bool:
    """True if the error came through a function whose name begins so."""
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_name.startswith(function):
            return True
        step = step.tb_next
    return False


def _foreign_key(error: BaseException) -> Kind:
    """PostgreSQL has one code for two mistakes; the statement tells them apart.

    An INSERT, UPDATE or MERGE named a row that is not there. A DELETE, or a deferred check at COMMIT
    (no statement), would leave a reference behind.
    """
    statements = (str(getattr(link, "statement", None) or "") for link in _chain(error))
    statement = next(filter(None, statements), "").lstrip().upper()
    names_a_row = statement.startswith(("INSERT", "UPDATE", "MERGE", "WITH"))
    return Kind.MISSING_REFERENCE if names_a_row else Kind.STILL_REFERENCED


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it wraps: SQLAlchemy keeps the driver's error in `orig`."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        orig = getattr(seen, "orig", None)
        seen = orig if isinstance(orig, BaseException) else seen.__cause__


def _is(error: BaseException, module: str, name: str) -> bool:
    """`isinstance` by name: classifying must not import a driver that was never needed."""
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == module.partition(".")[0]
        for base in type(error).__mro__
    )
