"""SQLAlchemy's psycopg dialect, with transactions that begin in flight and a connect that asks nothing.

Everything goes through the hooks that a dialect has: `do_begin`, the isolation level, the
connection characteristics. Sessions, isolation levels and `postgresql_readonly` mean what they
always mean.
"""

from __future__ import annotations

from typing import Any

from greenlet import getcurrent, greenlet
from psycopg.errors import ActiveSqlTransaction
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.engine.characteristics import ConnectionCharacteristic
from sqlalchemy.engine.interfaces import ExecuteStyle, IsolationLevel

from .preamble import Flight

# Execution options. SETTINGS: a mapping of run-time parameters that hold for each transaction, sent
# with its BEGIN. COMPANION: a statement and its parameters, sent after those; if it raises, nothing
# that follows is done. LAST: this statement is the unit's last, so the COMMIT goes with it.
SETTINGS = "postgresql_settings"
COMPANION = "postgresql_companion"
LAST = {"last_statement": True}
_DEFAULT_LEVEL: IsolationLevel = "READ COMMITTED"
_ORM_OPTIONS = ("_sa_orm_insert_options", "_sa_orm_update_options")


class Passenger(greenlet):
    """Runs a statement up to where it would be sent; whoever runs it sends it along with others."""

    # Lets SQLAlchemy await within it, by handing the awaitable to whoever runs it.
    __sqlalchemy_greenlet_provider__ = True


class _SettingsCharacteristic(ConnectionCharacteristic):
    """Keeps `postgresql_settings` on the connection until it goes back to the pool."""

    transactional = True

    def reset_characteristic(self, dialect: Any, dbapi_conn: Any) -> None:
        dialect.flight(dbapi_conn).settings = {}

    def set_characteristic(self, dialect: Any, dbapi_conn: Any, value: Any) -> None:
        dialect.flight(dbapi_conn).settings = dict(value)

    def get_characteristic(self, dialect: Any, dbapi_conn: Any) -> Any:
        return dialect.flight(dbapi_conn).settings


class _CompanionCharacteristic(ConnectionCharacteristic):
    """Keeps `postgresql_companion` on the connection until it goes back to the pool."""

    transactional = True

    def reset_characteristic(self, dialect: Any, dbapi_conn: Any) -> None:
        dialect.flight(dbapi_conn).companion = None

    def set_characteristic(self, dialect: Any, dbapi_conn: Any, value: Any) -> None:
        dialect.flight(dbapi_conn).companion = value

    def get_characteristic(self, dialect: Any, dbapi_conn: Any) -> Any:
        return dialect.flight(dbapi_conn).companion


class _SingleFlight:
    """What both dialects do otherwise than SQLAlchemy's; the driver itself stays in autocommit."""

    connection_characteristics = PGDialect_psycopg.connection_characteristics.union(
        {SETTINGS: _SettingsCharacteristic(), COMPANION: _CompanionCharacteristic()}
    )

    def flight(self, dbapi_connection: Any) -> Flight:
        """What the connection notes for its next statement."""
        flight: Flight = self.get_driver_connection(dbapi_connection).flight  # type: ignore[attr-defined]
        return flight

    def do_begin(self, dbapi_connection: Any) -> None:
        self.flight(dbapi_connection).opened()

    def do_rollback(self, dbapi_connection: Any) -> None:
        self.flight(dbapi_connection).closed()
        super().do_rollback(dbapi_connection)  # type: ignore[misc]

    def do_commit(self, dbapi_connection: Any) -> None:
        self.flight(dbapi_connection).closed()
        super().do_commit(dbapi_connection)  # type: ignore[misc]

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        traveller = getcurrent()
        if isinstance(traveller, Passenger) and traveller.parent:
            traveller.parent.switch((cursor, statement, parameters))
            return
        flight = self.flight(context.root_connection.connection.dbapi_connection)
        flight.commits = _is_last(context) and not flight.autocommit
        execute = super().do_execute  # type: ignore[misc]
        try:
            execute(cursor, statement, parameters, context)
        except ActiveSqlTransaction:
            if not flight.autocommit or flight.read_only:
                raise
            # VACUUM and its like stand alone in AUTOCOMMIT, without even settings for company.
            flight.alone = True
            execute(cursor, statement, parameters, context)
        finally:
            # A cursor that shares no flight did not take the COMMIT along; no other statement may.
            flight.commits = flight.alone = False

    def set_isolation_level(self, dbapi_connection: Any, level: IsolationLevel) -> None:
        flight = self.flight(dbapi_connection)
        flight.autocommit = level == "AUTOCOMMIT"
        flight.isolation_level = None if flight.autocommit else level

    def reset_isolation_level(self, dbapi_connection: Any) -> None:
        flight = self.flight(dbapi_connection)
        # Not the default by name: the role or the database may have one of its own.
        flight.autocommit, flight.isolation_level = False, None
        if self._on_connect_isolation_level is not None:  # type: ignore[attr-defined]
            self.set_isolation_level(dbapi_connection, self._on_connect_isolation_level)  # type: ignore[attr-defined]

    def detect_autocommit_setting(self, dbapi_connection: Any) -> bool:
        return self.flight(dbapi_connection).autocommit

    def get_isolation_level(self, dbapi_connection: Any) -> IsolationLevel:
        flight = self.flight(dbapi_connection)
        return "AUTOCOMMIT" if flight.autocommit else flight.isolation_level or _DEFAULT_LEVEL

    def set_readonly(self, dbapi_connection: Any, value: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        self.flight(dbapi_connection).read_only = value

    def get_readonly(self, dbapi_connection: Any) -> bool:
        return self.flight(dbapi_connection).read_only

    def set_deferrable(self, dbapi_connection: Any, value: bool) -> None:  # noqa: FBT001  (SQLAlchemy's)
        self.flight(dbapi_connection).deferrable = value

    def get_deferrable(self, dbapi_connection: Any) -> bool:
        return self.flight(dbapi_connection).deferrable

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


def _is_last(context: Any) -> bool:
    """Whether the COMMIT may go along: after `LAST`, unless it is one of a batch or within a savepoint."""
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
