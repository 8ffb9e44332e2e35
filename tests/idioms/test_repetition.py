"""A request is run again after a conflict or a lost connection, unless a part of it was committed."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from lib.onetrip.fastapi.sessions import AsyncSessionDep, DatabaseDep, SessionDep
from lib.onetrip.pool.database import Database
from lib.onetrip.retries import retry
from lib.onetrip.session.session import LAST, transaction
from tests.idioms.conftest import Idiom

INSERT = text("INSERT INTO items (name) SELECT 'run ' || count(*) FROM items")
LOSE = text("SELECT pg_terminate_backend(pg_backend_pid())")
CONFLICT = text("DO $$ BEGIN RAISE EXCEPTION 'c' USING ERRCODE = '40001'; END $$")


def _not_at_all(session: Session, _database: Database) -> None:
    session.execute(INSERT)


def _with_last(session: Session, _database: Database) -> None:
    session.execute(INSERT, execution_options=LAST)


def _by_commit(session: Session, _database: Database) -> None:
    session.execute(INSERT)
    session.commit()


def _by_begin(session: Session, _database: Database) -> None:
    with session.begin():
        session.execute(INSERT)


def _in_its_own_transaction(_session: Session, database: Database) -> None:
    with transaction(database) as own:
        own.execute(INSERT)


def _by_the_driver(_session: Session, database: Database) -> None:
    connection: Any = database.engine.raw_connection()
    try:
        connection.cursor().execute(str(INSERT))
        connection.commit()
    finally:
        connection.close()


def _in_autocommit(_session: Session, database: Database) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(INSERT)


def _by_the_engine(_session: Session, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(INSERT)


def _by_the_sessions_driver(session: Session, _database: Database) -> None:
    session.execute(INSERT)
    session.connection().connection.commit()


def _as_a_statement(session: Session, _database: Database) -> None:
    session.execute(INSERT)
    session.execute(text("COMMIT"))


def _as_a_statement_with_others(session: Session, _database: Database) -> None:
    session.connection().exec_driver_sql(f"{INSERT}; COMMIT; SELECT 1")


COMMITTING = [
    *(_with_last, _by_commit, _by_begin, _in_its_own_transaction, _by_the_driver, _in_autocommit),
    *(_by_the_engine, _by_the_sessions_driver, _as_a_statement, _as_a_statement_with_others),
]
FAULTS = pytest.mark.parametrize("fault", [LOSE, CONFLICT], ids=["lost", "conflict"])


def failing_once(idiom: Idiom, fault: Any, write: Callable[[Session, Database], None]) -> list[int]:
    """Add a route that writes and then meets `fault`, in its first run; the list tells how often it ran."""
    runs: list[int] = []

    @idiom.app.post("/sync", status_code=201)
    def sync_route(session: SessionDep, database: DatabaseDep) -> None:
        write(session, database)
        runs.append(1)
        if len(runs) == 1:
            session.execute(fault)

    return runs


@FAULTS
@pytest.mark.parametrize("write", COMMITTING)
def test_what_was_committed_is_not_done_again(
    idiom: Idiom, fault: Any, write: Callable[[Session, Database], None]
) -> None:
    """Whichever way it was committed: the request runs once, its row is there once, and it fails."""
    runs = failing_once(idiom, fault, write)
    if write is _with_last and fault is CONFLICT:
        # After LAST the session only reads.
        return
    assert idiom.ask("/sync").status in {409, 503}
    assert (len(runs), idiom.names) == (1, ["run 0"])


@FAULTS
def test_what_was_rolled_back_is_done_again(idiom: Idiom, fault: Any) -> None:
    """Nothing was committed: the second run succeeds, and its row is the only one."""
    runs = failing_once(idiom, fault, _not_at_all)
    assert idiom.ask("/sync").status == 201
    assert (len(runs), idiom.names) == (2, ["run 0"])


@FAULTS
def test_an_async_request_is_run_again_or_not_as_a_sync_one(idiom: Idiom, fault: Any) -> None:
    """With and without a commit in between."""
    runs: list[int] = []

    @idiom.app.post("/{commits}", status_code=201)
    async def route(commits: bool, session: AsyncSessionDep) -> None:  # noqa: FBT001
        await session.execute(INSERT)
        if commits:
            await session.commit()
        runs.append(1)
        if len(runs) == 1:
            await session.execute(fault)

    assert idiom.ask("/false").status == 201
    assert (len(runs), idiom.names) == (2, ["run 0"])
    runs.clear()
    assert idiom.ask("/true").status in {409, 503}
    assert (len(runs), idiom.names) == (1, ["run 0", "run 1"])


@FAULTS
@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
@pytest.mark.parametrize("write", [_not_at_all, *COMMITTING])
def test_retry_outside_of_requests_stops_at_a_commit_too(
    idiom: Idiom, fault: Any, write: Callable[[Session, Database], None]
) -> None:
    """`retry` runs a unit again that was rolled back, and none of which a part was committed."""
    if write is _with_last and fault is CONFLICT:
        return
    runs: list[int] = []

    def work() -> None:
        with transaction(idiom.database) as session:
            write(session, idiom.database)
            runs.append(1)
            if len(runs) == 1:
                session.execute(fault)

    if write is _not_at_all:
        retry(work)
    else:
        with pytest.raises(DBAPIError):
            retry(work)
    assert (len(runs), idiom.names) == (2 if write is _not_at_all else 1, ["run 0"])


def test_middleware_that_committed_does_not_stop_the_routes_repetition(idiom: Idiom) -> None:
    """Only what would be run again counts: what was committed outside of it is not done twice."""
    runs = failing_once(idiom, LOSE, _not_at_all)

    @idiom.app.middleware("http")
    async def outside(request: Any, call_next: Any) -> Any:
        if request.url.path == "/sync":
            with transaction(idiom.database) as session:
                session.execute(text("INSERT INTO items (name) VALUES ('outside')"))
        return await call_next(request)

    assert idiom.ask("/sync").status == 201
    assert (len(runs), idiom.names) == (2, ["outside", "run 1"])
