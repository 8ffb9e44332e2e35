"""Errors without an SQLSTATE, by what they are: a client's value, stored data, a mistake of ours."""

import enum
import secrets
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Enum, Integer, bindparam, select, text
from sqlalchemy.orm import Session

from lib.onetrip.fastapi.sessions import AsyncReadSessionDep, AsyncSessionDep, SessionDep
from tests.idioms.conftest import Idiom, Item


class Colour(enum.Enum):
    """The values of a column."""

    RED = "red"


class Body(BaseModel):
    """The body of a request."""

    value: Any = None


def _unsendable_text(session: Session, value: Any) -> Any:
    return session.scalar(text("SELECT cast(:x AS text)"), {"x": f"{value}\x00"})


def _surrogate(session: Session, _value: Any) -> Any:
    return session.scalar(text("SELECT cast(:x AS text)"), {"x": "\ud800"})


def _no_member(session: Session, _value: Any) -> Any:
    colour = bindparam("x", "blue", Enum(Colour, native_enum=False, validate_strings=True))
    return session.scalars(select(Item.id).where(colour == Colour.RED)).all()


def _too_many(session: Session, _value: Any) -> Any:
    session.execute(text("SELECT 1"))
    return session.scalars(select(Item.id).where(Item.id.in_(range(70_000)))).all()


def _long_for_index(session: Session, _value: Any) -> Any:
    session.add(Item(name=secrets.token_hex(30_000)))
    session.flush()


def _stored_date(session: Session, _value: Any) -> Any:
    return session.scalar(text("SELECT '20000-01-01'::timestamp"))


def _stored_member(session: Session, _value: Any) -> Any:
    return session.scalars(text("SELECT 'blue' AS x").columns(x=Enum(Colour))).all()


def _missing_parameter(session: Session, _value: Any) -> Any:
    return session.scalar(text("SELECT cast(:x AS int)"))


def _unknown_type(session: Session, _value: Any) -> Any:
    return session.scalar(select(bindparam("x", object(), Integer)))


def _closed_result(session: Session, _value: Any) -> Any:
    result = session.execute(text("SELECT 1"))
    result.close()
    return result.all()


def _begun_twice(session: Session, _value: Any) -> Any:
    session.begin()
    session.begin()


def _closed_cursor(session: Session, _value: Any) -> Any:
    cursor = session.connection().connection.cursor()
    cursor.close()
    cursor.execute("SELECT 1")


CLIENTS = [_unsendable_text, _surrogate, _no_member, _too_many, _long_for_index]
OURS = [
    *(_stored_date, _stored_member, _missing_parameter, _unknown_type, _closed_result, _begun_twice),
    _closed_cursor,
]


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(("work", "status"), [*((w, 422) for w in CLIENTS), *((w, 500) for w in OURS)])
def test_what_it_is_decides(idiom: Idiom, work: Any, status: int, way: str) -> None:
    """4xx for what the client sent, 500 for stored data and misuse; each runs once, and none is a 503."""
    if work is _too_many and way == "async" and idiom.door == "lambda":
        return
    runs: list[int] = []

    @idiom.app.post("/sync")
    def sync_route(body: Body, session: SessionDep) -> Any:
        runs.append(1)
        return str(work(session, body.value))

    @idiom.app.post("/async")
    async def async_route(body: Body, session: AsyncSessionDep) -> Any:
        runs.append(1)
        return str(await session.run_sync(work, body.value))

    assert idiom.ask(f"/{way}", json={"value": "x"}).status == status
    assert len(runs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
def test_a_relation_that_cannot_be_loaded_is_ours(idiom: Idiom) -> None:
    """A lazy relation in an async route is a mistake of the program, and said in the log."""
    idiom.run("INSERT INTO items (name) VALUES ('a')")

    @idiom.app.post("/lazy")
    async def lazy(session: AsyncReadSessionDep) -> Any:
        item = (await session.scalars(select(Item))).one()
        return len(item.parts)

    assert idiom.statuses("/lazy") == {500}
