"""Assumptions about the internals of libraries, checked against the installed versions."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import waiting
from sqlalchemy import Engine, NullPool, Pool, create_engine, event
from sqlalchemy.dialects.postgresql.psycopg import (
    AsyncAdapt_psycopg_cursor,
    PGDialect_psycopg,
    PGDialectAsync_psycopg,
)
from sqlalchemy.engine.base import RootTransaction
from sqlalchemy.orm import Session
from sqlalchemy.pool.base import _ConnectionFairy, _ConnectionRecord

from lib import onetrip
from lib.onetrip.connection.connector import connect_arguments
from lib.onetrip.connection.driver_release import NEWEST_READ, note_release
from lib.onetrip.pool.database import Database

VERSIONS = {"psycopg": "3.3", "SQLAlchemy": "2.1"}
# Overridden or called though private, or public and undocumented: psycopg 3.3, SQLAlchemy 2.1. With each the
# beginning of a digest of its source, which a patch release may change too.
CONNECTIONS = (psycopg.Connection, psycopg.AsyncConnection)
CURSORS = (psycopg.Cursor, psycopg.AsyncCursor)
PIPELINES = (psycopg.Pipeline, psycopg.AsyncPipeline)
INSIDES: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
    "_connect_gen": (CONNECTIONS, ("e1a252ae", "e1a252ae")),
    "_start_query": (CONNECTIONS, ("bf3d90ef", "bf3d90ef")),
    # With BEGIN first, in bytes.
    "_get_tx_start_command": (CONNECTIONS, ("f4e861ea", "f4e861ea")),
    "_exec_command": (CONNECTIONS, ("fb1d5546", "fb1d5546")),
    "_rollback_gen": (CONNECTIONS, ("64b11909", "64b11909")),
    "_commit_gen": (CONNECTIONS, ("125b5c5f", "125b5c5f")),
    "_tpc_begin_gen": (CONNECTIONS, ("af45d5ea", "af45d5ea")),
    "_tpc_finish_gen": (CONNECTIONS, ("daad034c", "daad034c")),
    "_pipeline_nolock": (CONNECTIONS, ("c0650c2c", "7e2fc05a")),
    "wait": (CONNECTIONS, ("602ce5e4", "5df564e7")),
    "_execute_gen": (CURSORS, ("d4128fe2", "d4128fe2")),
    "_executemany_gen_pipeline": (CURSORS, ("005e4ac2", "005e4ac2")),
    "_convert_query": (CURSORS, ("52f9f99b", "52f9f99b")),
    "_check_results": (CURSORS, ("ee0084e7", "ee0084e7")),
    "_set_results": (CURSORS, ("4fd84aae", "4fd84aae")),
    "_stream_send_gen": (CURSORS, ("a7c73754", "a7c73754")),
    "_start_copy_gen": (CURSORS, ("e1a507e8", "e1a507e8")),
    "_declare_gen": ((psycopg.ServerCursor, psycopg.AsyncServerCursor), ("c03aa12d", "c03aa12d")),
    "_exit_gen": (PIPELINES, ("fd7793ca", "fd7793ca")),
    "_sync_gen": (PIPELINES, ("e808e094", "e808e094")),
    "_enqueue_sync": (PIPELINES, ("976a6bf0", "976a6bf0")),
    "_communicate_gen": (PIPELINES, ("e1b241de", "e1b241de")),
    "_fetch_gen": (PIPELINES, ("c2bcdf56", "c2bcdf56")),
    "_process_results": (PIPELINES, ("ea5c5d58", "ea5c5d58")),
    "_get_enter_commands": ((psycopg.Transaction, psycopg.AsyncTransaction), ("932c256a", "932c256a")),
    "wait_async": ((waiting,), ("8e8b5568",)),
    "_get_server_version_info": ((PGDialect_psycopg,), ("41f807fb",)),
    "_get_default_schema_name": ((PGDialect_psycopg,), ("5c6e9180",)),
    "_set_backslash_escapes": ((PGDialect_psycopg,), ("04a1fbb3",)),
    "get_default_isolation_level": ((PGDialect_psycopg,), ("1c44374e",)),
    "reset_isolation_level": ((PGDialect_psycopg,), ("a259901b",)),
    "get_driver_connection": ((PGDialectAsync_psycopg,), ("8f58e3e9",)),
    "_do_close": ((RootTransaction,), ("d28c6b27",)),
    "_close_impl": ((RootTransaction,), ("bc0750d2",)),
    "_reset": ((*CURSORS, _ConnectionFairy), ("73406777", "73406777", "8fcbb48e")),
    # Called by `LimitedQueuePool.take`, as SQLAlchemy's own checkout does.
    "_checkin_failed": ((_ConnectionRecord,), ("abd440da",)),
    "checkin": ((_ConnectionRecord,), ("002c948f",)),
    "get_connection": ((_ConnectionRecord,), ("75737f4d",)),
    "_invalidate": ((Pool,), ("6c8efc5b",)),
    "_checkout": ((_ConnectionFairy,), ("9ae1eca1",)),
    "_execute_async": ((AsyncAdapt_psycopg_cursor,), ("f454587e",)),
}
PACKAGE = Path(onetrip.__file__).parent
# What is called the same by chance.
OURS_TOO = {"_autocommit", "_close", "_described", "_encoding", "_exit", "_name", "_pgconn"}
ATTRIBUTES = {
    CONNECTIONS: ("_pipeline", "pgconn", "lock"),
    CURSORS: ("_adapters", "_conn", "_last_query", "_query", "_tx", "format"),
    PIPELINES: ("command_queue", "result_queue"),
}


@pytest.mark.parametrize(("package", "release"), VERSIONS.items())
def test_the_versions_are_those_that_were_read(package: str, release: str) -> None:
    """With another release of a library, look at its insides again and then raise the number here."""
    assert version(package).rpartition(".")[0] == release


def digests(name: str) -> tuple[str, ...]:
    """The digest of each owner's function of that name."""
    owners, _ = INSIDES[name]
    functions = [inspect.unwrap(getattr(owner, name)) for owner in owners]
    return tuple(
        hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:8] for function in functions
    )


@pytest.mark.parametrize("name", INSIDES)
def test_the_insides_are_those_that_were_read(name: str) -> None:
    """A hook that changed may be overridden in vain: look again, then write the digest here."""
    assert digests(name) == INSIDES[name][1]


def test_the_attributes_are_still_there(database: Database) -> None:
    """The attributes that are read and set exist on psycopg's objects."""
    driver: Any = database.engine.raw_connection().driver_connection
    cursor = driver.execute("SELECT 1")
    for owner, names in ((driver, ATTRIBUTES[CONNECTIONS]), (cursor, ATTRIBUTES[CURSORS])):
        assert [name for name in names if not hasattr(owner, name)] == []
    with driver.pipeline() as pipeline:
        assert [name for name in ATTRIBUTES[PIPELINES] if not hasattr(pipeline, name)] == []


def test_the_private_names_of_psycopg_are_all_listed(database: Database) -> None:
    """No other file uses a name that psycopg keeps to itself than is listed, and so watched, here."""
    with psycopg.connect(**connect_arguments(database.url)) as connection:
        owners = (*CONNECTIONS, *CURSORS, *PIPELINES, psycopg.ServerCursor, psycopg.Transaction, connection)
        theirs = {name for owner in owners for name in dir(owner)}
    files = [file for file in PACKAGE.rglob("*.py") if "psycopg" in file.read_text()]
    used = {name for file in files for name in _private_names(file)}
    listed = INSIDES.keys() | {name for names in ATTRIBUTES.values() for name in names} | OURS_TOO
    assert sorted(used & theirs - listed) == []


def _private_names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "name", None)
        if isinstance(name, str) and name.startswith("_") and not name.endswith("__"):
            yield name


@pytest.mark.parametrize(
    ("release", "told"),
    [("3.3.9", 0), ("3.3.4", 0), ("3.3.10", 1), ("3.4.0", 1), ("3.3.3", 1), ("3.4.dev1", 1)],
)
def test_a_release_that_was_not_read_is_told(
    caplog: pytest.LogCaptureFixture, release: str, told: int
) -> None:
    """A newer patch release of psycopg is used, and a line of the log says that it was not read."""
    note_release.__wrapped__(release)
    assert [("Install psycopg 3.3.9" in record.message) for record in caplog.records] == [True] * told


def test_the_newest_release_that_was_read_is_the_one_that_is_tested() -> None:
    """What stands in the package is what these tests run with."""
    assert ".".join(map(str, NEWEST_READ)) == version("psycopg")


def test_psycopgs_pipeline_still_sends_a_flush_after_its_sync() -> None:
    """Once it does not, `lib.onetrip.connection.pipeline` need not change it."""
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


def test_listeners_of_a_class_stay_in_one_collection() -> None:
    """Of SQLAlchemy's sessions: it is looked at in place of each session's own."""

    class OwnSession(Session):
        pass

    def hear(_: object) -> None:
        pass

    listeners = OwnSession().dispatch.do_orm_execute.parent_listeners
    for target in (Session, OwnSession):
        assert len(listeners) == 0
        event.listen(target, "do_orm_execute", hear)
        assert list(listeners) == [hear]
        event.remove(target, "do_orm_execute", hear)
    assert len(listeners) == 0


def test_what_we_do_not_ask_is_what_the_server_would_answer(database: Database) -> None:
    """The login told, or PostgreSQL's defaults are, what SQLAlchemy's own dialect asks each server."""
    url = database.engine.url.set(drivername="postgresql+psycopg")
    stock = create_engine(url, connect_args=connect_arguments(database.url), poolclass=NullPool)
    assert _known(database.engine) == _known(stock)
