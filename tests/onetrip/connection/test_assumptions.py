"""What we assume of other people's insides, checked against the versions that it was read in."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import psycopg
import pytest
from psycopg import waiting
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg

from lib.onetrip.connection.connector import connect_arguments
from lib.onetrip.pool.database import Database

VERSIONS = {"psycopg": "3.3", "SQLAlchemy": "2.1"}
# What we override or call though it is private, or public and undocumented: psycopg 3.3, SQLAlchemy 2.1.
SIGNATURES: list[tuple[object, str, str]] = [
    (psycopg.Connection, "_connect_gen", "(conninfo=)"),
    (psycopg.AsyncConnection, "_connect_gen", "(conninfo=)"),
    (psycopg.Connection, "wait", "(self, gen, interval=0.1, timeout=None)"),
    (psycopg.AsyncConnection, "wait", "(self, gen, interval=0.1, timeout=None)"),
    (waiting, "wait_async", "(gen, fileno, interval=0.0, timeout=None)"),
    (psycopg.Pipeline, "_exit_gen", "(self)"),
    (psycopg.AsyncPipeline, "_exit_gen", "(self)"),
    (psycopg.Pipeline, "_enqueue_sync", "(self)"),
    (psycopg.Pipeline, "_communicate_gen", "(self)"),
    (psycopg.Pipeline, "_fetch_gen", "(self, flush)"),
    (PGDialect_psycopg, "_get_server_version_info", "(self, connection)"),
    (PGDialect_psycopg, "_get_default_schema_name", "(self, connection)"),
    (PGDialect_psycopg, "_set_backslash_escapes", "(self, connection)"),
    (PGDialect_psycopg, "get_default_isolation_level", "(self, dbapi_conn)"),
    (PGDialect_psycopg, "reset_isolation_level", "(self, dbapi_conn)"),
    (PGDialectAsync_psycopg, "get_driver_connection", "(self, connection)"),
]


@pytest.mark.parametrize(("package", "release"), VERSIONS.items())
def test_the_versions_are_those_that_were_read(package: str, release: str) -> None:
    """With another release of a library, look at its insides again and then raise the number here."""
    assert version(package).rpartition(".")[0] == release


@pytest.mark.parametrize(("owner", "name", "signature"), SIGNATURES)
def test_what_we_override_is_still_there(owner: object, name: str, signature: str) -> None:
    """A hook that was renamed would be overridden in vain, and nobody would notice."""
    parameters = inspect.signature(getattr(owner, name)).parameters.values()
    shown = [p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters]
    assert f"({', '.join(shown)})" == signature


def test_psycopgs_pipeline_still_sends_a_flush_after_its_sync() -> None:
    """Once it does not, `lib.onetrip.connection.single_flight` need not change it."""
    assert "_fetch_gen(flush=True)" in inspect.getsource(psycopg.Pipeline._exit_gen)  # noqa: SLF001  (the point)


def _known(engine: Engine) -> tuple[Any, ...]:
    with engine.connect():
        dialect: Any = engine.dialect
        return (
            dialect.server_version_info,
            dialect.default_schema_name,
            dialect.default_isolation_level,
            dialect._backslash_escapes,  # noqa: SLF001  (the point)
            dialect.max_identifier_length,
        )


def test_what_we_do_not_ask_is_what_the_server_would_answer(database: Database) -> None:
    """The login told, or PostgreSQL's defaults are, what SQLAlchemy's own dialect asks each server."""
    url = database.engine.url.set(drivername="postgresql+psycopg")
    stock = create_engine(url, connect_args=connect_arguments(database.url), poolclass=NullPool)
    assert _known(database.engine) == _known(stock)
