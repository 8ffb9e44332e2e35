"""SQLAlchemy's psycopg dialect, with pipelined transactions and a connect without queries.

Everything goes through the hooks that a dialect has: `do_begin`, the isolation level, the
connection characteristics. Sessions, isolation levels and `postgresql_readonly` mean what they
always mean.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from types import FrameType, MappingProxyType
from typing import Any

from greenlet import getcurrent, greenlet
from psycopg.errors import ActiveSqlTransaction, InvalidTransactionTermination
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.engine.base import RootTransaction
from sqlalchemy.engine.characteristics import ConnectionCharacteristic
from sqlalchemy.engine.interfaces import ExecuteStyle, IsolationLevel
from sqlalchemy.pool.base import _ConnectionFairy

from .preamble import Preamble

# Execution options. SETTINGS: a mapping of run-time parameters that hold for each transaction, sent
# with its BEGIN. GUARD: a statement and its parameters, sent after those; if it raises, nothing
# that follows is done. LAST: this statement is the unit's last, so the COMMIT goes with it.
SETTINGS = "postgresql_settings"
GUARD = "postgresql_guard"
LAST = {"last_statement": True}
_DEFAULT_LEVEL: IsolationLevel = "READ COMMITTED"
# Nothing else tells a dialect why it rolls back: the functions of SQLAlchemy's that give a connection up, and
# how far above they stand.
_CLOSING = frozenset({RootTransaction._do_close.__code__, _ConnectionFairy._reset.__code__})  # noqa: SLF001
_NEAREST_CALLERS = 4
_ORM_OPTIONS = ("_sa_orm_insert_options", "_sa_orm_update_options")


class DeferredStatement(greenlet):
    """Runs a statement up to the point of sending; its parent sends it along with others."""

    # Lets SQLAlchemy await within it, by handing the awaitable to the parent.
    __sqlalchemy_greenlet_provider__ = True


class _PreambleCharacteristic(ConnectionCharacteristic):
    """Keeps an execution option on the connection until it goes back to the pool."""

    transactional = True

    def __init__(self, name: str, default: Any) -> None:
        self._name = name
        self._default = default

    def reset_characteristic(self, dialect: Any, dbapi_conn: Any) -> None:
        self.set_characteristic(dialect, dbapi_conn, self._default)

    def set_characteristic(self, dialect: Any, dbapi_conn: Any, value: Any) -> None:
        setattr(dialect.preamble(dbapi_conn), self._name, value)

    def get_characteristic(self, dialect: Any, dbapi_conn: Any) -> Any:
        return getattr(dialect.preamble(dbapi_conn), self._name)


class _SingleFlight:
    """The differences of both dialects from SQLAlchemy's."""

    # Called with each statement and its context before it is sent, and with its seconds once it was answered
    # or failed. A listener of an engine would make each connection look for listeners of every event.
    before_statements: tuple[Callable[[str, Any], None], ...] = ()
    after_statements: tuple[Callable[[str, float], None], ...] = ()
    # Called with the pool's connection before a COMMIT or ROLLBACK.
    before_ends: tuple[Callable[[Any], None], ...] = ()

    connection_characteristics = PGDialect_psycopg.connection_characteristics.union(
        {
            SETTINGS: _PreambleCharacteristic("settings", MappingProxyType({})),
            GUARD: _PreambleCharacteristic("guard", None),
        }
    )

    def driver_of(self, dbapi_connection: Any) -> Any:
        """The driver's own connection: SQLAlchemy wraps async ones, and its pool all of them."""
        if isinstance(dbapi_connection, _ConnectionFairy):
            dbapi_connection = dbapi_connection.dbapi_connection
        return self.get_driver_connection(dbapi_connection)  # type: ignore[attr-defined]

    def preamble(self, dbapi_connection: Any) -> Preamble:
        """The options of the connection for its next statement."""
        preamble: Preamble = self.driver_of(dbapi_connection).preamble
        return preamble

    def do_begin(self, dbapi_connection: Any) -> None:
        self.preamble(dbapi_connection).ended = False

    def do_begin_twophase(self, connection: Any, xid: Any) -> None:
        if self.preamble(connection.connection.dbapi_connection).autocommit:
            raise self.dbapi.ProgrammingError(  # type: ignore[attr-defined]  # SQLAlchemy's
                "can't use two-phase transactions in autocommit mode"
            )
        super().do_begin_twophase(connection, xid)  # type: ignore[misc]  # SQLAlchemy's

    def do_rollback(self, dbapi_connection: Any) -> None:
        driver = self._ending(dbapi_connection)
        if not (driver.only_read and _is_closing(sys._getframe(1)) and driver.leave()):  # noqa: SLF001  (cheap)
            super().do_rollback(dbapi_connection)  # type: ignore[misc]

    def do_commit(self, dbapi_connection: Any) -> None:
        if not self._ending(dbapi_connection).is_idle:
            super().do_commit(dbapi_connection)  # type: ignore[misc]

    def _ending(self, dbapi_connection: Any) -> Any:
        """The driver's connection, whose transaction may end."""
        for look in self.before_ends:
            look(dbapi_connection)
        driver = self.driver_of(dbapi_connection)
        driver.preamble.ended = False
        return driver

    def do_ping(self, dbapi_connection: Any) -> bool:
        preamble = self.preamble(dbapi_connection)
        preamble.alone, autocommit, preamble.autocommit = True, preamble.autocommit, False
        cursor = dbapi_connection.cursor()
        try:
            cursor.execute(";")
        finally:
            cursor.close()
            preamble.alone, preamble.autocommit = False, autocommit
        return True

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        self._observed(super().do_execute, (cursor, statement, parameters), context)  # type: ignore[misc]

    def do_execute_no_params(self, cursor: Any, statement: Any, context: Any = None) -> None:
        self._observed(super().do_execute_no_params, (cursor, statement), context)  # type: ignore[misc]

    def do_executemany(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        self._observed(super().do_executemany, (cursor, statement, parameters), context)  # type: ignore[misc]

    def _observed(self, execute: Any, arguments: tuple[Any, ...], context: Any) -> None:
        statement = arguments[1]
        for look in self.before_statements:
            look(statement, context)
        began = perf_counter()
        try:
            deferred = getcurrent()
            if context.execute_style is ExecuteStyle.EXECUTEMANY:
                execute(*arguments, context)
            elif isinstance(deferred, DeferredStatement) and deferred.parent:
                deferred.parent.switch((*arguments, None)[:3])
            else:
                self._execute(execute, arguments, context)
        finally:
            for judge in self.after_statements:
                judge(statement, perf_counter() - began)

    def _execute(self, execute: Any, arguments: tuple[Any, ...], context: Any) -> None:
        driver = self.driver_of(context.root_connection.connection.dbapi_connection)
        preamble: Preamble = driver.preamble
        preamble.last = not preamble.autocommit and _is_last(context)
        try:
            execute(*arguments, context)
        except (ActiveSqlTransaction, InvalidTransactionTermination) as error:
            # VACUUM, CALL of a procedure that commits, and their like stand alone in AUTOCOMMIT, without even
            # settings beside them. The refusal has undone all of it.
            if not preamble.autocommit or preamble.read_only or not driver.is_idle:
                raise
            if preamble.settings or preamble.guard:
                error.add_note(
                    "It must be sent alone, so a connection with settings or a guard cannot run it."
                )
                raise
            preamble.alone = True
            execute(*arguments, context)
        finally:
            # A cursor outside the pipeline did not send the COMMIT, and a later statement must not.
            preamble.last = preamble.alone = False

    def set_isolation_level(self, dbapi_connection: Any, level: IsolationLevel) -> None:
        preamble = self.preamble(dbapi_connection)
        preamble.autocommit = level == "AUTOCOMMIT"
        preamble.isolation_level = None if preamble.autocommit else level

    def reset_isolation_level(self, dbapi_connection: Any) -> None:
        preamble = self.preamble(dbapi_connection)
        # Not the default by name: the role or the database may have one of its own.
        preamble.autocommit, preamble.isolation_level = False, None
        if self._on_connect_isolation_level is not None:  # type: ignore[attr-defined]
            self.set_isolation_level(dbapi_connection, self._on_connect_isolation_level)  # type: ignore[attr-defined]

    def get_isolation_level(self, dbapi_connection: Any) -> IsolationLevel:
        driver = self.driver_of(dbapi_connection)
        if driver.autocommit:
            return "AUTOCOMMIT"
        if driver.preamble.isolation_level:
            level: IsolationLevel = driver.preamble.isolation_level
            return level
        # That of the role or the database, or of the driver's connection.
        return super().get_isolation_level(dbapi_connection)  # type: ignore[misc,no-any-return]

    def set_readonly(self, dbapi_connection: Any, value: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        self.preamble(dbapi_connection).read_only = value

    def get_readonly(self, dbapi_connection: Any) -> bool:
        return self.preamble(dbapi_connection).read_only

    def set_deferrable(self, dbapi_connection: Any, value: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        self.preamble(dbapi_connection).deferrable = value

    def get_deferrable(self, dbapi_connection: Any) -> bool:
        return self.preamble(dbapi_connection).deferrable

    # The rest is what SQLAlchemy asks a server on the first connect. The login told most of it; the
    # isolation level and schema are PostgreSQL's defaults, which nothing here depends on.

    default_isolation_level: IsolationLevel | None = _DEFAULT_LEVEL

    def get_default_isolation_level(self, dbapi_connection: Any) -> IsolationLevel:  # noqa: ARG002  (SQLAlchemy's)
        return _DEFAULT_LEVEL

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        number = connection.connection.driver_connection.info.server_version
        return (number // 10_000, number % 10_000)

    def _get_default_schema_name(self, connection: Any) -> str:  # noqa: ARG002  (SQLAlchemy's)
        return "public"

    def _set_backslash_escapes(self, connection: Any) -> None:
        info = connection.connection.driver_connection.info
        self._backslash_escapes = info.parameter_status("standard_conforming_strings") == "off"


def _is_closing(frame: FrameType | None) -> bool:
    """Return True if SQLAlchemy rolls back to give the connection up, not for a call of `rollback()`."""
    for _ in range(_NEAREST_CALLERS):
        if frame is None or frame.f_code in _CLOSING:
            break
        frame = frame.f_back
    return frame is not None and frame.f_code in _CLOSING


def _is_last(context: Any) -> bool:
    """Return True if the COMMIT may be sent too: after `LAST`, outside batches and savepoints."""
    options = context.execution_options
    return (
        bool(options.get("last_statement"))
        and context.execute_style is ExecuteStyle.EXECUTE
        # Of a list of unlike rows the ORM makes several statements, all with the same options.
        and not any(getattr(options.get(name), "_dml_strategy", None) == "bulk" for name in _ORM_OPTIONS)
        and not context.root_connection.in_nested_transaction()
    )


class SingleFlightDialect(_SingleFlight, PGDialect_psycopg):
    """For `create_engine`."""

    driver = "single_flight"
    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> type[PGDialectAsync_psycopg]:  # noqa: ARG003  (SQLAlchemy's)
        return SingleFlightAsyncDialect


class SingleFlightAsyncDialect(_SingleFlight, PGDialectAsync_psycopg):
    """For `create_async_engine`."""

    driver = "single_flight"
    supports_statement_cache = True
