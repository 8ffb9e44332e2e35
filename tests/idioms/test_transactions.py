"""Transactions in a route, as SQLAlchemy's documentation writes them; and no 2xx for what was not stored."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session, selectinload

from lib.onetrip.fastapi.sessions import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    ReadSessionDep,
    SessionDep,
    get_async_session,
    get_session,
    session_dependency,
)
from lib.onetrip.session.session import LAST
from tests.idioms.conftest import Idiom, Item, Part


class OtherBase(DeclarativeBase):
    """A second mapping of the same tables."""


class Versioned(OtherBase):
    """An item whose version is checked by each UPDATE."""

    __table__ = Item.__table__
    __mapper_args__ = {"version_id_col": Item.__table__.c.version}  # noqa: RUF012


# The session that a sync route gets, and what an async one's does in SQLAlchemy's own bridge.
INSERT = text("INSERT INTO items (name) VALUES (:name)")


class ItemOut(BaseModel):
    """An item with its parts."""

    model_config = ConfigDict(from_attributes=True)
    name: str
    parts: list[str] = []


def both_ways(idiom: Idiom, work: Any, status: int = 201) -> None:
    """Add a route for sync sessions and one for async ones that do the same work."""

    @idiom.app.post("/sync/{n}", status_code=status)
    def sync_route(n: int, session: SessionDep) -> Any:
        return work(session, n)

    @idiom.app.post("/async/{n}", status_code=status)
    async def async_route(n: int, session: AsyncSessionDep) -> Any:
        return await session.run_sync(work, n)


WAYS = ("/sync/{n}", "/async/{n}")


@pytest.mark.parametrize("path", WAYS)
def test_add_commit_refresh(idiom: Idiom, path: str) -> None:
    """The first lines of every tutorial: the row is stored once, and its values are read again."""

    def work(session: Session, n: int) -> Any:
        item = Item(name=f"item {n}")
        session.add(item)
        session.commit()
        session.refresh(item)
        return {"id": item.id, "name": item.name}

    both_ways(idiom, work)
    replies = idiom.at_once(path)
    assert {reply.status for reply in replies} == {201}
    assert sorted(reply.json["name"] for reply in replies) == idiom.names
    assert len(idiom.names) == 8


@pytest.mark.parametrize("path", WAYS)
def test_a_session_goes_on_after_a_commit_and_the_rest_is_committed_at_the_end(
    idiom: Idiom, path: str
) -> None:
    """Commit as you go; an error takes back only what was not committed."""

    def work(session: Session, n: int) -> None:
        session.execute(INSERT, {"name": f"first {n}"})
        session.commit()
        session.execute(INSERT, {"name": f"second {n}"})
        session.rollback()
        session.execute(INSERT, {"name": f"third {n}"})
        if n % 2:
            raise HTTPException(418)

    both_ways(idiom, work)
    replies = idiom.at_once(path)
    assert sorted(reply.status for reply in replies) == [201] * 4 + [418] * 4
    assert idiom.names == [f"first {n}" for n in range(8)] + [f"third {n}" for n in (0, 2, 4, 6)]


@pytest.mark.slow
@pytest.mark.parametrize("path", WAYS)
def test_get_or_create(idiom: Idiom, path: str) -> None:
    """Flush, catch the duplicate, roll back, look it up: eight at once find one row."""

    def work(session: Session, _n: int) -> Any:
        item = Item(name="the one")
        session.add(item)
        try:
            session.flush()
        except IntegrityError:
            session.rollback()
            return session.scalars(select(Item.name)).one()
        return item.name

    both_ways(idiom, work)
    assert {(reply.status, reply.json) for reply in idiom.at_once(path)} == {(201, "the one")}
    assert idiom.names == ["the one"]


def _core(session: Session, name: str) -> None:
    session.execute(INSERT, {"name": name})


def _orm(session: Session, name: str) -> None:
    session.add(Item(name=name))
    session.flush()


@pytest.mark.slow
@pytest.mark.parametrize("add", [_core, _orm], ids=["core", "orm"])
@pytest.mark.parametrize("path", WAYS)
def test_an_error_that_is_caught_without_a_rollback_is_no_success(idiom: Idiom, path: str, add: Any) -> None:
    """The transaction cannot be committed any more, so the answer is an error, and nothing is stored."""
    idiom.run("INSERT INTO items (name) VALUES ('taken')")

    def work(session: Session, n: int) -> str:
        session.execute(insert(Item).values(name=f"audit {n}"))
        try:
            add(session, "taken")
        except IntegrityError:
            return "already there"
        return "stored"

    both_ways(idiom, work)
    assert idiom.statuses(path) == {500}
    assert idiom.names == ["taken"]


@pytest.mark.slow
@pytest.mark.parametrize("path", WAYS)
def test_an_error_that_is_caught_before_a_commit_in_the_route_is_no_success(idiom: Idiom, path: str) -> None:
    """`commit()` in the route refuses too, and says what to do."""

    def work(session: Session, n: int) -> None:
        session.execute(INSERT, {"name": f"audit {n}"})
        try:
            session.execute(text("SELECT 1 / 0"))
        except DBAPIError:
            session.commit()

    both_ways(idiom, work)
    assert idiom.statuses(path) == {500}
    assert idiom.names == []


@pytest.mark.parametrize("path", WAYS)
def test_a_transaction_is_begun_in_the_route(idiom: Idiom, path: str) -> None:
    """`with session.begin():` is committed where its block ends, one after another."""

    def work(session: Session, n: int) -> None:
        with session.begin():
            session.execute(INSERT, {"name": f"first {n}"})
        with session.begin():
            session.execute(INSERT, {"name": f"second {n}"})

    both_ways(idiom, work)
    assert idiom.statuses(path) == {201}
    assert len(idiom.names) == 16


@pytest.mark.parametrize("path", WAYS)
def test_a_transaction_is_begun_after_a_dependency_has_read(idiom: Idiom, path: str) -> None:
    """`with session.begin():` joins the transaction that a query before it began, and commits it."""

    def work(session: Session, n: int) -> None:
        session.scalars(select(Item)).all()
        with session.begin():
            session.execute(INSERT, {"name": f"first {n}"})
        session.execute(INSERT, {"name": f"second {n}"})
        if n % 2:
            raise HTTPException(418)

    both_ways(idiom, work)
    assert sorted(reply.status for reply in idiom.at_once(path)) == [201] * 4 + [418] * 4
    assert len(idiom.names) == 12


def test_an_async_transaction_is_begun_in_the_route(idiom: Idiom) -> None:
    """`async with session.begin():` too, and in a reading session."""

    @idiom.app.post("/begin/{n}", status_code=201)
    async def begin(n: int, session: AsyncSessionDep) -> None:
        async with session.begin():
            await session.execute(INSERT, {"name": f"item {n}"})

    @idiom.app.post("/reading/{n}")
    def read(n: int, session: ReadSessionDep) -> Any:
        with session.begin():
            return session.scalar(select(Item.name).where(Item.name == f"item {n}"))

    assert idiom.statuses("/begin/{n}") == {201}
    assert sorted(reply.json for reply in idiom.at_once("/reading/{n}")) == idiom.names
    assert len(idiom.names) == 8


@pytest.mark.parametrize("path", WAYS)
def test_a_savepoint_keeps_what_was_before_it(idiom: Idiom, path: str) -> None:
    """A part within `begin_nested` fails, and the rest is stored."""

    def work(session: Session, n: int) -> None:
        session.execute(INSERT, {"name": f"kept {n}"})
        try:
            with session.begin_nested():
                session.add(Item(name=f"kept {n}"))
        except IntegrityError:
            session.execute(INSERT, {"name": f"instead {n}"})

    both_ways(idiom, work)
    assert idiom.statuses(path) == {201}
    assert len(idiom.names) == 16


@pytest.mark.parametrize("path", WAYS)
def test_a_closed_session_is_used_again(idiom: Idiom, path: str) -> None:
    """`close()` in a route gives back what was not committed, and the session goes on."""

    def work(session: Session, n: int) -> None:
        session.execute(INSERT, {"name": f"lost {n}"})
        session.close()
        session.execute(INSERT, {"name": f"kept {n}"})

    both_ways(idiom, work)
    assert idiom.statuses(path) == {201}
    assert idiom.names == [f"kept {n}" for n in range(8)]


@pytest.mark.slow
def test_objects_are_returned_with_their_relations(idiom: Idiom) -> None:
    """A lazy relation is read while the answer is made; a loaded one in async routes."""
    idiom.run("INSERT INTO items (name) VALUES ('a')")
    idiom.run("INSERT INTO parts (item_id, name) SELECT id, 'p' FROM items")

    class Shown(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        name: str

    class Whole(Shown):
        parts: list[Shown]

    @idiom.app.get("/lazy", response_model=Whole)
    def lazy(session: SessionDep) -> Any:
        return session.scalars(select(Item)).one()

    @idiom.app.get("/lazy-read", response_model=Whole)
    def lazy_read(session: ReadSessionDep) -> Any:
        return session.scalars(select(Item)).one()

    @idiom.app.get("/loaded", response_model=Whole)
    async def loaded(session: AsyncSessionDep) -> Any:
        return (await session.scalars(select(Item).options(selectinload(Item.parts)))).one()

    for path in ("/lazy", "/lazy-read", "/loaded"):
        replies = idiom.at_once(path, "GET")
        assert {reply.body for reply in replies} == {b'{"name":"a","parts":[{"name":"p"}]}'}, path


@pytest.mark.slow
@pytest.mark.parametrize("path", WAYS)
def test_optimistic_locking_answers_409(idiom: Idiom, path: str) -> None:
    """A row whose version has moved on is a conflict, not a fault of the service."""
    idiom.run("INSERT INTO items (name) VALUES ('a')")

    def work(session: Session, _n: int) -> None:
        item: Any = session.scalars(select(Versioned)).one()
        session.connection().execute(text("UPDATE items SET version = version + 1"))
        item.name = "b"
        session.flush()

    both_ways(idiom, work)
    assert {reply.status for reply in idiom.at_once(path, number=2)} == {409}
    assert idiom.names == ["a"]


def test_a_write_of_a_reading_session_names_the_way(idiom: Idiom) -> None:
    """It is a mistake of the program and no outage: 500, with the sessions that write; after LAST, too."""

    @idiom.app.post("/read/{n}")
    def read(n: int, session: ReadSessionDep) -> None:
        session.execute(INSERT, {"name": f"{n}"})

    @idiom.app.post("/flush/{n}")
    async def flush(n: int, session: AsyncReadSessionDep) -> None:
        session.add(Item(name=f"{n}"))
        await session.flush()

    @idiom.app.post("/last/{n}")
    def last(n: int, session: SessionDep) -> None:
        session.execute(INSERT, {"name": f"last {n}"}, execution_options=LAST)
        session.execute(INSERT, {"name": f"{n}"})

    for path in ("/read/{n}", "/flush/{n}", "/last/{n}"):
        replies = idiom.at_once(path)
        assert {reply.status for reply in replies} == {500}
        assert all("Write in a SessionDep" in reply.json["detail"] for reply in replies)
    assert idiom.names == [f"last {n}" for n in range(8)]


@pytest.mark.parametrize("get", [get_session, get_async_session])
def test_a_session_that_would_end_after_the_answer_is_refused(idiom: Idiom, get: Any) -> None:
    """`Depends(get_session)` would be committed after a 2xx was sent."""

    @idiom.app.post("/late")
    def late(session: Annotated[Any, Depends(get)]) -> None:
        session.add(Item(name="late"))

    replies = idiom.at_once("/late")
    assert {reply.status for reply in replies} == {500}
    assert all("Take SessionDep" in reply.json["detail"] for reply in replies)


@pytest.mark.parametrize("commit", [False, True])
def test_the_applications_own_session_class(idiom: Idiom, commit: bool) -> None:  # noqa: FBT001
    """Its methods are there; its routes commit, and with `commit` the rest is committed at the end."""

    class Own(Session):
        def put(self, name: str) -> None:
            self.execute(INSERT, {"name": name})

    @idiom.app.post("/own/{n}", status_code=201)
    def own(n: int, session: Annotated[Own, session_dependency(Own, commit=commit)]) -> str:
        item = Item(name=f"committed {n}")
        session.add(item)
        session.commit()
        session.refresh(item)
        session.put(f"rest {n}")
        return item.name

    assert idiom.statuses("/own/{n}") == {201}
    assert len(idiom.names) == (16 if commit else 8)


def test_a_part_belongs_to_an_item() -> None:
    """The relation of these tests' tables is the one that the routes load."""
    assert Part.__table__.c.item_id.references(Item.__table__.c.id)
