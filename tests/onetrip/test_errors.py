"""The meaning of a database error follows from its SQLSTATE, not from its class or words."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import URL, exc

from lib.onetrip.errors import DeadlineExceededError, PoolExhaustedError, SettingsError
from lib.onetrip.sqlstate import KINDS, Fault, Kind, classify, is_waking

PROJECT = Path(__file__).parents[2]
DIALECT = URL.create("postgresql+psycopg").get_dialect()()
MEANINGS = {
    "23505": Kind.ALREADY_EXISTS,
    "23P01": Kind.ALREADY_EXISTS,
    "23503": Kind.STILL_REFERENCED,
    "23001": Kind.STILL_REFERENCED,
    "23502": Kind.INVALID_VALUE,
    "23514": Kind.INVALID_VALUE,
    "22001": Kind.INVALID_VALUE,  # too long
    "22003": Kind.INVALID_VALUE,  # out of range
    "22P02": Kind.INVALID_VALUE,  # malformed
    "22021": Kind.INVALID_VALUE,  # not in the encoding
    "54000": Kind.INVALID_VALUE,  # too long for an index
    "40001": Kind.CONFLICT,
    "40P01": Kind.CONFLICT,
    "57014": Kind.TIMEOUT,
    "25P03": Kind.TIMEOUT,
    "25P04": Kind.TIMEOUT,
    "55P03": Kind.BUSY,
    "25006": Kind.READ_ONLY,
    "08007": Kind.UNKNOWN,
    "08000": Kind.UNAVAILABLE,
    "08003": Kind.UNAVAILABLE,
    "08006": Kind.UNAVAILABLE,
    "08P01": Kind.UNAVAILABLE,  # what a pooler answers when it has no server
    "53100": Kind.UNAVAILABLE,
    "53200": Kind.UNAVAILABLE,
    "53300": Kind.UNAVAILABLE,
    "57P01": Kind.UNAVAILABLE,
    "57P02": Kind.UNAVAILABLE,
    "57P03": Kind.UNAVAILABLE,
    "57P05": Kind.UNAVAILABLE,
    # A mistake of ours, or nothing that a client should learn about.
    "42601": Kind.INTERNAL,
    "42P01": Kind.INTERNAL,
    "42501": Kind.INTERNAL,
    "28P01": Kind.INTERNAL,
    "3D000": Kind.INTERNAL,
    "25P02": Kind.INTERNAL,
    "P0001": Kind.INTERNAL,
    "XX000": Kind.INTERNAL,
    "57000": Kind.INTERNAL,
    "23000": Kind.INTERNAL,
}


def wrapped(error: psycopg.Error, statement: str | None = "SELECT 1") -> Exception:
    """The error as SQLAlchemy hands it on."""
    wrapper = exc.DBAPIError.instance(statement, {}, error, psycopg.Error, dialect=DIALECT)
    assert isinstance(wrapper, exc.DBAPIError)
    return wrapper


@pytest.mark.parametrize(("sqlstate", "kind"), MEANINGS.items())
def test_a_sqlstate_has_one_meaning(sqlstate: str, kind: Kind) -> None:
    """The driver's error means the same bare and wrapped, and keeps its code."""
    error = errors.lookup(sqlstate)("secret words of the server")
    assert classify(error) == classify(wrapped(error)) == Fault(kind, sqlstate)


def test_every_entry_of_the_table_is_tested() -> None:
    """A code or class that gains a meaning gains an example above."""
    assert all(
        any(code.startswith(key) and MEANINGS[code] is KINDS[key] for code in MEANINGS) for key in KINDS
    )
    assert {*KINDS.values()} | {Kind.MISSING_REFERENCE, Kind.INTERNAL} == {*Kind}


def test_a_code_the_driver_does_not_know_is_classified_by_its_class() -> None:
    """Codes of newer servers are understood as far as their first characters tell."""
    error = psycopg.DatabaseError()
    error.sqlstate = "22ZZZ"
    assert classify(wrapped(error)) == Fault(Kind.INVALID_VALUE, "22ZZZ")
    error.sqlstate = "57PZZ"
    assert classify(wrapped(error)) == Fault(Kind.UNAVAILABLE, "57PZZ")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("connection refused"), Kind.UNAVAILABLE),
        (errors.ConnectionTimeout(), Kind.UNAVAILABLE),
        (psycopg.InterfaceError("the connection is closed"), Kind.UNAVAILABLE),
        (psycopg.DataError("a text cannot contain NUL"), Kind.INVALID_VALUE),
        (psycopg.InterfaceError("the cursor is closed"), Kind.INTERNAL),
        (psycopg.OperationalError("number of parameters must be between 0 and 65535"), Kind.INVALID_VALUE),
        (psycopg.ProgrammingError("wrong number of parameters"), Kind.INTERNAL),
        (psycopg.NotSupportedError(), Kind.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_an_error_without_a_code_is_the_drivers_own(error: psycopg.Error, kind: Kind) -> None:
    """Without an answer of a server, the driver's class distinguishes a lost connection from a bad value."""
    assert classify(error) == classify(wrapped(error)) == Fault(kind)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("INSERT INTO books (author_id) VALUES (%s)", Kind.MISSING_REFERENCE),
        ("  \n insert into books (author_id) values (%s)", Kind.MISSING_REFERENCE),
        ("UPDATE books SET author_id = %s", Kind.MISSING_REFERENCE),
        ("MERGE INTO books USING other ON true", Kind.MISSING_REFERENCE),
        ("WITH new AS (SELECT 1) INSERT INTO books SELECT * FROM new", Kind.MISSING_REFERENCE),
        ("DELETE FROM authors", Kind.STILL_REFERENCED),
        ("TRUNCATE authors", Kind.STILL_REFERENCED),
        ("", Kind.STILL_REFERENCED),
        (None, Kind.STILL_REFERENCED),
    ],
)
def test_a_foreign_key_error_is_told_apart_by_its_statement(statement: str | None, kind: Kind) -> None:
    """A write names a missing reference; a delete, or a commit, leaves a reference behind."""
    error = wrapped(errors.ForeignKeyViolation(), statement)
    assert classify(error) == Fault(kind, "23503")
    assert classify(caused_by(error)) == Fault(kind, "23503")


def caused_by(error: Exception) -> Exception:
    """An error of the application's that was raised from `error`."""
    outer = RuntimeError()
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PoolExhaustedError(), Kind.BUSY),
        (exc.TimeoutError(), Kind.BUSY),
        (DeadlineExceededError(), Kind.TIMEOUT),
        (exc.NoResultFound(), Kind.INTERNAL),
        (exc.PendingRollbackError(), Kind.INTERNAL),
        (exc.StatementError("a parameter is missing", "SELECT 1", {}, KeyError()), Kind.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_what_goes_wrong_before_the_driver_is_classified_too(error: Exception, kind: Kind) -> None:
    """A full pool, a deadline that is over and SQLAlchemy's own errors have their meaning."""
    assert classify(error) == Fault(kind)


@pytest.mark.parametrize(
    "error", [ValueError(), TimeoutError(), type("Error", (Exception,), {})(), caused_by(OSError())]
)
def test_an_error_of_the_applications_is_left_alone(error: Exception) -> None:
    """An error of other code is no fault of the database, even if its class has the same name."""
    assert classify(error) is None


def test_only_a_server_that_is_starting_is_waking() -> None:
    """Asleep is told from down by the one code that a starting server sends."""
    assert is_waking(wrapped(errors.CannotConnectNow()))
    assert not any(
        is_waking(error) for error in (wrapped(errors.AdminShutdown()), psycopg.OperationalError(), OSError())
    )


def test_classifying_imports_no_driver() -> None:
    """A function that never touches the database does not pay for its driver."""
    loaded = "print({'psycopg', 'sqlalchemy'} & {*sys.modules})"
    program = f"import sys, lib.onetrip.sqlstate; lib.onetrip.sqlstate.classify(ValueError()); {loaded}"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set()\n"


def test_a_settings_error_is_a_line_for_each_problem() -> None:
    """Printed as it is, the error is what a user needs to read."""
    error = SettingsError(["A: is missing.", "B: is wrong."])
    assert str(error) == "A: is missing.\nB: is wrong."
    assert error.problems == ("A: is missing.", "B: is wrong.")
