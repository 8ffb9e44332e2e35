"""Round trips of every SQLAlchemy engine on psycopg in this process, each with the line that caused it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, Pool, event
from sqlalchemy.orm import ORMExecuteState, Session

from ..observability.caller_stack import application_lines, frames
from .wire import Wire

_LAZY_LOAD = "onetrip_lazy_load"
_REFRESH = "onetrip_refresh"


@dataclass(frozen=True, eq=False)
class Cause:
    """A step of SQLAlchemy's: what it sends, the application's line, and what the ORM loads by it.

    One step may take several round trips: BEGIN, PREPARE and the statement with the plain driver.
    """

    what: str
    line: str = ""
    lazy_load: str | None = None
    refresh: str | None = None


@dataclass
class _Watched:
    """A connection, and the step that its next round trips belong to."""

    wire: Wire
    cause: Cause | None = None


class Trips:
    """Every round trip while `recording`, in order; the opening of a connection is none."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self._connections: WeakSet[Any] = WeakSet()
        self._watched: dict[int, _Watched] = {}
        self._depth = 0
        self._lock = RLock()

    def install(self) -> None:
        """Learn of each connection that any engine opens from now on."""
        event.listen(Pool, "connect", self._connected)

    def uninstall(self) -> None:
        """Learn of no more connections."""
        event.remove(Pool, "connect", self._connected)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Add to `causes` during the block; blocks may lie in each other."""
        with self._lock:
            if self._depth == 0:
                self._begin()
            self._depth += 1
            self.settle()
        try:
            yield
        finally:
            with self._lock:
                self.settle()
                self._depth -= 1
                if self._depth == 0:
                    self._end()

    def settle(self) -> None:
        """Note what each connection has sent so far."""
        with self._lock:
            for watched in self._watched.values():
                self._note(watched)

    def _begin(self) -> None:
        for connection in list(self._connections):
            if not connection.closed:
                self._watch(connection)
        for target, name, listener in self._listeners():
            event.listen(target, name, listener)

    def _end(self) -> None:
        for target, name, listener in self._listeners():
            event.remove(target, name, listener)
        for watched in self._watched.values():
            watched.wire.close()
        self._watched.clear()

    def _listeners(self) -> Iterator[tuple[Any, str, Any]]:
        yield Engine, "before_cursor_execute", self._execute
        for name in ("commit", "rollback"):
            yield Engine, name, getattr(self, f"_{name}")
        yield Pool, "checkout", self._checkout
        yield Pool, "reset", self._reset
        yield Pool, "checkin", self._checkin
        yield Session, "do_orm_execute", _name_loads

    def _watch(self, connection: Any) -> _Watched:
        watched = self._watched[id(connection)] = _Watched(Wire(connection))
        return watched

    def _note(self, watched: _Watched) -> None:
        self.causes += [watched.cause or Cause("validation of the connection")] * watched.wire.trips()

    def _next(self, connection: Any, cause: Cause | None) -> None:
        """Let the connection's round trips belong to `cause` from now on."""
        with self._lock:
            watched = self._watched.get(id(connection))
            if watched is None:
                return
            self._note(watched)
            if cause and not cause.line and watched.cause:
                # The library itself commits behind the application's last line.
                cause = replace(cause, line=watched.cause.line)
            watched.cause = cause

    # Listeners, by SQLAlchemy's names of their arguments

    def _connected(self, _dbapi_connection: Any, record: Any) -> None:
        if _is_counted(record.driver_connection):
            self._connections.add(record.driver_connection)

    def _checkout(self, _dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        connection = record.driver_connection
        if not _is_counted(connection):
            return
        with self._lock:
            if id(connection) not in self._watched:
                # A new one: what it asked until here was part of its opening.
                self._watch(connection)
            watched = self._watched[id(connection)]
            watched.cause = Cause("validation of the connection", _line())
            self._note(watched)

    def _checkin(self, _dbapi_connection: Any, record: Any) -> None:
        self._next(record.driver_connection, None)

    def _reset(self, _dbapi_connection: Any, record: Any, _state: Any) -> None:
        self._next(record.driver_connection, Cause("ROLLBACK", _line()))

    def _execute(
        self,
        connection: Connection,
        _cursor: Any,
        statement: str,
        _parameters: Any,
        context: Any,
        _many: object,
    ) -> None:
        options = context.execution_options if context else {}
        cause = Cause(" ".join(statement.split()), _line(), options.get(_LAZY_LOAD), options.get(_REFRESH))
        self._next(connection.connection.driver_connection, cause)

    def _commit(self, connection: Connection) -> None:
        self._next(connection.connection.driver_connection, Cause("COMMIT", _line()))

    def _rollback(self, connection: Connection) -> None:
        if not connection.invalidated:
            self._next(connection.connection.driver_connection, Cause("ROLLBACK", _line()))


def _is_counted(connection: Any) -> bool:
    """Return True for a connection of psycopg's, which no other driver's is.

    Nor is a stand-in whose statements go over connections that are counted themselves.
    """
    from psycopg import BaseConnection  # noqa: PLC0415  (the driver is needed for counting only)

    return isinstance(connection, BaseConnection)


def _line() -> str:
    lines = application_lines(frames())
    return lines[-1] if lines else ""


def _name_loads(state: ORMExecuteState) -> None:
    """Name the relation that a lazy load is for, and the class whose expired row is read again."""
    if not state.is_select:
        return
    if state.is_relationship_load and state.lazy_loaded_from is not None and state.loader_strategy_path:
        state.update_execution_options(**{_LAZY_LOAD: str(state.loader_strategy_path.path[-1])})
    elif state.is_column_load and state.bind_mapper is not None:
        state.update_execution_options(**{_REFRESH: state.bind_mapper.class_.__name__})


TRIPS = Trips()
