"""Our dialects as SQLAlchemy's tests want them: under the driver's name, connecting by what they may wrap."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.engine.default import DefaultDialect

from lib.onetrip.pool.dialect import OnetripAsyncDialect, OnetripDialect


class Dialect(OnetripDialect):
    """Ours, under the driver's name."""

    # The suite looks at a driver's cursors by its name.
    driver = "psycopg"
    supports_statement_cache = True
    # Tests that break connections wrap the driver module, and connect by it.
    connect = DefaultDialect.connect

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        psycopg: ModuleType = super().import_dbapi()  # type: ignore[no-untyped-call]  # SQLAlchemy's
        driver = ModuleType(psycopg.__name__)
        vars(driver).update(vars(psycopg), connect=OnetripDialect(dbapi=psycopg).connect)
        return driver

    @classmethod
    def load_provisioning(cls) -> None:
        from sqlalchemy.dialects.postgresql import provision  # noqa: F401,PLC0415  (after pytest's rewriting)


class AsyncDialect(OnetripAsyncDialect):
    """The same for async engines."""

    driver = "psycopg"
    supports_statement_cache = True

    @classmethod
    def get_async_dialect_cls(cls, url: Any) -> type[AsyncDialect]:  # noqa: ARG003  (SQLAlchemy's)
        return cls

    @classmethod
    def load_provisioning(cls) -> None:
        Dialect.load_provisioning()

    def create_connect_args(self, url: Any) -> tuple[list[Any], dict[str, Any]]:
        # The name of the async variant is the suite's, not a user's.
        return super().create_connect_args(url.set(drivername="postgresql+onetrip"))


registry.register("postgresql.onetrip", __name__, "Dialect")
registry.register("postgresql.onetrip_async", __name__, "AsyncDialect")
