"""Routes that fail in every way a route can, for the tests of what the client then gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, NamedTuple

import psycopg
from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import literal, select, text

from lib.onetrip.fastapi.sessions import DatabaseDep, ReadSessionDep, SessionDep
from lib.onetrip.pool.database import Database
from lib.onetrip.sqlstate import Kind
from tests.onetrip.application import create_app

# The name of every table and the text of every value and message that a body could repeat.
CANARY = "canary"
TABLE = "CREATE TEMP TABLE canary ({}) ON COMMIT DROP"
PARENT = TABLE.format("id int PRIMARY KEY")
CHILD = "CREATE TEMP TABLE canary_child (id int REFERENCES canary {}) ON COMMIT DROP"


class Case(NamedTuple):
    """Statements of one unit of work, the last of which fails, and the answer they deserve."""

    statements: tuple[str, ...]
    status: int
    kind: Kind
    retry_after: str | None = None


CASES: dict[str, Case] = {
    "unique": Case(
        (TABLE.format("x text UNIQUE"), *["INSERT INTO canary VALUES ('canary')"] * 2),
        409,
        Kind.ALREADY_EXISTS,
    ),
    "exclusion": Case(
        (
            TABLE.format("x int4range, EXCLUDE USING gist (x WITH &&)"),
            *["INSERT INTO canary VALUES ('[1,3]')"] * 2,
        ),
        409,
        Kind.ALREADY_EXISTS,
    ),
    "missing-on-insert": Case(
        (PARENT, CHILD.format(""), "INSERT INTO canary_child VALUES (1)"), 422, Kind.MISSING_REFERENCE
    ),
    "missing-on-update": Case(
        (
            PARENT,
            CHILD.format(""),
            "INSERT INTO canary_child VALUES (NULL)",
            "UPDATE canary_child SET id = 1",
        ),
        422,
        Kind.MISSING_REFERENCE,
    ),
    "still-referenced": Case(
        (
            PARENT,
            CHILD.format(""),
            "INSERT INTO canary VALUES (1)",
            "INSERT INTO canary_child VALUES (1)",
            "DELETE FROM canary",
        ),
        409,
        Kind.STILL_REFERENCED,
    ),
    "restricted": Case(
        (
            PARENT,
            CHILD.format("ON DELETE RESTRICT"),
            "INSERT INTO canary VALUES (1)",
            "INSERT INTO canary_child VALUES (1)",
            "DELETE FROM canary",
        ),
        409,
        Kind.STILL_REFERENCED,
    ),
    "deferred-to-the-commit": Case(
        (PARENT, CHILD.format("INITIALLY DEFERRED"), "INSERT INTO canary_child VALUES (1)"),
        409,
        Kind.STILL_REFERENCED,
    ),
    "not-null": Case(
        (TABLE.format("x int NOT NULL"), "INSERT INTO canary VALUES (NULL)"), 422, Kind.INVALID_VALUE
    ),
    "check": Case(
        (TABLE.format("x int CHECK (x > 0)"), "INSERT INTO canary VALUES (0)"), 422, Kind.INVALID_VALUE
    ),
    "too-long": Case(
        (TABLE.format("x varchar(3)"), "INSERT INTO canary VALUES ('canary')"), 422, Kind.INVALID_VALUE
    ),
    "out-of-range": Case(("SELECT 2147483647::int + 1",), 422, Kind.INVALID_VALUE),
    "no-such-day": Case(("SELECT '2030-02-30'::date",), 422, Kind.INVALID_VALUE),
    "no-number": Case(("SELECT 'canary'::int",), 422, Kind.INVALID_VALUE),
    "statement-timeout": Case(
        ("SET LOCAL statement_timeout = 20", "SELECT pg_sleep(60) AS canary"), 504, Kind.TIMEOUT
    ),
    "transaction-timeout": Case(
        ("SET LOCAL transaction_timeout = 20", "SELECT pg_sleep(60) AS canary"), 504, Kind.TIMEOUT
    ),
    "lock-timeout": Case(
        ("SET LOCAL lock_timeout = 20", "SELECT pg_advisory_xact_lock(7)"), 503, Kind.BUSY, "1"
    ),
    "write-in-a-read-only-transaction": Case(
        ("SET TRANSACTION READ ONLY", "DELETE FROM books"), 503, Kind.READ_ONLY, "5"
    ),
    "terminated": Case(("SELECT pg_terminate_backend(pg_backend_pid())",), 503, Kind.UNAVAILABLE, "2"),
    "syntax": Case(("SELEKT canary",), 500, Kind.INTERNAL),
    "no-table": Case(("SELECT * FROM canary",), 500, Kind.INTERNAL),
    "raised": Case(("DO $$ BEGIN RAISE EXCEPTION 'canary'; END $$",), 500, Kind.INTERNAL),
}

router = APIRouter(prefix="/faults")


@router.post("/statements/{name}")
def run_statements(name: str, session: SessionDep) -> str:
    for statement in CASES[name].statements:
        session.execute(text(statement))
    return CANARY


@router.get("/write-in-a-read-session")
def write_in_a_read_session(session: ReadSessionDep) -> str:
    session.execute(text("DELETE FROM books"))
    return CANARY


@router.get("/nul")
def send_a_nul(session: ReadSessionDep) -> str:
    session.execute(text("SELECT cast(:x AS text)"), {"x": f"{CANARY}\x00"})
    return CANARY


@router.get("/read")
def read(session: ReadSessionDep) -> int:
    return session.execute(select(literal(1))).scalar_one()


@router.post("/lost-update")
def lose_an_update(session: SessionDep, database: DatabaseDep) -> str:
    """Read a row, let a second connection change it, then change it from what was read."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    session.execute(text("SELECT name FROM authors"))
    with psycopg.connect(database.url.render(hide_password=False)) as connection:
        connection.execute(b"UPDATE authors SET email = email || '+'")
    session.execute(text("UPDATE authors SET name = 'canary'"))
    return CANARY


class Number(BaseModel):
    number: int


def _failing_dependency() -> None:
    raise ValueError(CANARY)


@router.get("/raise")
async def raise_an_error() -> None:
    raise RuntimeError(CANARY)


@router.get("/raise-in-a-thread")
def raise_in_a_thread() -> None:
    raise RuntimeError(CANARY)


@router.get("/raise-in-a-dependency")
def raise_in_a_dependency(_: Annotated[None, Depends(_failing_dependency)]) -> None: ...


@router.get("/raise-in-a-transaction")
def raise_in_a_transaction(session: SessionDep) -> None:
    session.execute(text("SELECT 1"))
    raise KeyError(CANARY)


@router.get("/raise-a-group")
async def raise_a_group() -> None:
    raise ExceptionGroup(CANARY, [RuntimeError(CANARY)])


@router.get("/answer-wrongly", response_model=Number)
def answer_wrongly() -> dict[str, str]:
    return {"number": CANARY}


@router.get("/break-off")
async def break_off() -> StreamingResponse:
    """Fail once the answer has begun."""

    async def parts() -> AsyncIterator[str]:
        yield "begun"
        raise RuntimeError(CANARY)

    return StreamingResponse(parts())


@router.get("/fail-afterwards")
async def fail_afterwards(tasks: BackgroundTasks) -> str:
    """Fail once the answer was sent."""
    tasks.add_task(raise_an_error)
    return "sent"


@router.get("/teapot")
async def refuse() -> None:
    raise HTTPException(418, "No coffee here.", {"Retry-After": "60"})


@contextmanager
def served_faulty(database: Database) -> Iterator[TestClient]:
    """A client of the application with these routes on `database`, which is closed afterwards."""
    app = create_app(database)
    app.include_router(router)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    database.close()


RAISING = (
    "raise",
    "raise-in-a-thread",
    "raise-in-a-dependency",
    "raise-in-a-transaction",
    "raise-a-group",
    "answer-wrongly",
)
