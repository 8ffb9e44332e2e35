"""Writes where only reading was asked for: a mistake of the program, where else no server takes writes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event, exc

from ..errors import UsageError

_READ_ONLY = "25006"
_REMEDY = (
    "A write in a read-only transaction: reading sessions only read, and so does what follows LAST until "
    "commit(). Write in a SessionDep, or in `with onetrip.transaction() as session:`."
)


class RefusedWriteError(UsageError, exc.InternalError):
    """The package's error, which is SQLAlchemy's too."""

    def __str__(self) -> str:
        return _REMEDY


def watch(engine: Engine) -> None:
    """Tell writes that the application's own session refuses from those that a server refuses."""
    event.listen(engine, "handle_error", _told)


def _told(failure: Any) -> Exception | None:
    error = failure.original_exception
    if getattr(error, "sqlstate", None) != _READ_ONLY or failure.connection is None:
        return None
    preamble = getattr(failure.connection.connection.driver_connection, "preamble", None)
    if preamble is None or not (preamble.read_only or preamble.ended):
        return None
    hides = failure.engine.hide_parameters
    return RefusedWriteError(failure.statement, failure.parameters, error, hide_parameters=hides)
