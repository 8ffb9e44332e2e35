"""A session's transaction that is ended by other means than the session's: it works, or is refused before."""

from inspect import isawaitable
from typing import Annotated, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from lib.onetrip.errors import UsageError
from lib.onetrip.fastapi.sessions import AsyncSessionDep, ReadSessionDep, SessionDep, session_dependency
from lib.onetrip.session.session import ending, transaction
from tests.idioms.conftest import Idiom

pytestmark = pytest.mark.slow

INSERT = text("INSERT INTO items (name) VALUES (:name)")
ONE = text("SELECT 1")
WAYS = pytest.mark.parametrize("path", ["/sync/{n}", "/async/{n}"])


def _awaited(given: Any) -> Any:
    return await_only(given) if isawaitable(given) else given


def _root(session: Session) -> Any:
    return session.connection().get_transaction()


REFUSED = {
    "commit": lambda session: session.connection().commit(),
    "rollback": lambda session: session.connection().rollback(),
    "close": lambda session: session.connection().close(),
    "transaction's commit": lambda session: _root(session).commit(),
    "transaction's rollback": lambda session: _root(session).rollback(),
    "transaction's close": lambda session: _root(session).close(),
}
WORKING = {
    "session's transaction": lambda session: session.get_transaction().commit(),
    "pool's connection": lambda session: session.connection().connection.commit(),
    "driver": lambda session: _awaited(session.connection().connection.driver_connection.commit()),
    "text": lambda session: session.execute(text("COMMIT")),
    "text with more": lambda session: session.execute(text("SELECT 1; COMMIT")),
    "cursor": lambda session: session.connection().connection.cursor().execute("COMMIT"),
    "end": lambda session: session.connection().exec_driver_sql("end"),
}


def both_ways(idiom: Idiom, end: Any, around: Any = INSERT) -> None:
    """Add routes that write, end the transaction, and write again."""

    def work(session: Session, n: int) -> None:
        session.execute(around, {"name": f"first {n}"})
        end(session)
        session.execute(around, {"name": f"second {n}"})

    @idiom.app.post("/sync/{n}")
    def sync_route(n: int, session: SessionDep) -> None:
        work(session, n)

    @idiom.app.post("/async/{n}")
    async def async_route(n: int, session: AsyncSessionDep) -> None:
        await session.run_sync(work, n)


@WAYS
@pytest.mark.parametrize("end", REFUSED)
def test_an_end_by_the_connection_is_refused_before_it_is_sent(idiom: Idiom, end: str, path: str) -> None:
    """SQLAlchemy would commit, and then refuse the session's commit: 500 with the row stored."""
    both_ways(idiom, REFUSED[end])
    replies = idiom.at_once(path)
    assert {reply.status for reply in replies} == {500}
    assert all("Call commit() or rollback() of the session" in reply.json["detail"] for reply in replies)
    assert idiom.names == []


@WAYS
@pytest.mark.parametrize("end", WORKING)
def test_an_end_that_the_session_notices_works(idiom: Idiom, end: str, path: str) -> None:
    """What came before is stored, the session goes on, and the rest is committed at the end."""
    both_ways(idiom, WORKING[end])
    assert idiom.statuses(path) == {200}
    assert idiom.names == [f"{part} {n}" for part in ("first", "second") for n in range(8)]


def _after_a_duplicate(end: Any) -> Any:
    def ended(session: Session) -> None:
        try:
            session.execute(INSERT, {"name": "taken"})
        except IntegrityError:
            end(session)

    return ended


@WAYS
@pytest.mark.parametrize("end", [end for end in WORKING if end != "text with more"])
def test_a_failed_transaction_is_committed_by_none_of_them(idiom: Idiom, end: str, path: str) -> None:
    """PostgreSQL would answer ROLLBACK and no error, and the first row would be lost behind a 2xx."""
    idiom.run("INSERT INTO items (name) VALUES ('taken')")
    both_ways(idiom, _after_a_duplicate(WORKING[end]))
    assert idiom.statuses(path) == {500}
    assert idiom.names == ["taken"]


@WAYS
def test_a_refused_end_can_be_made_good(idiom: Idiom, path: str) -> None:
    """Once the refusal is caught and the session rolled back, it goes on."""

    def end(session: Session) -> None:
        with pytest.raises(UsageError):
            session.connection().commit()
        session.rollback()

    both_ways(idiom, end)
    assert idiom.statuses(path) == {200}
    assert idiom.names == [f"second {n}" for n in range(8)]


def test_other_sessions_of_units_refuse_it_too(idiom: Idiom) -> None:
    """A class of the application's, a reading session, and one in a script."""

    class Own(Session):
        pass

    @idiom.app.post("/own")
    def own(session: Annotated[Own, session_dependency(Own, commit=True)]) -> None:
        session.execute(INSERT, {"name": "own"})
        session.connection().commit()

    @idiom.app.post("/read")
    def read(session: ReadSessionDep) -> None:
        session.connection().commit()

    assert idiom.statuses("/own") | idiom.statuses("/read") == {500}
    with pytest.raises(UsageError), transaction(idiom.database) as session:
        session.execute(INSERT, {"name": "script"})
        session.connection().commit()
    assert idiom.names == []


def test_a_kept_session_does_as_sqlalchemy_has_it(idiom: Idiom) -> None:
    """It may be committed by its connection, as long as it is not committed again."""

    @idiom.app.post("/kept/{n}")
    def kept(n: int) -> None:
        with Session(idiom.database.engine) as session:
            session.execute(INSERT, {"name": f"{n}"})
            session.connection().commit()

    assert idiom.statuses("/kept/{n}") == {200}
    assert len(idiom.names) == 8


@pytest.mark.parametrize("place", ["server-direct", "server-pooled"])
def test_a_connection_that_a_session_was_given_has_an_owner(idiom: Idiom) -> None:
    """The code that opened it ends it, as a test does that rolls back what its session committed."""
    with idiom.database.engine.connect() as connection:
        outer = connection.begin()
        with ending(Session)(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(INSERT, {"name": "tested"})
            session.commit()
            outer.rollback()
    assert idiom.names == []


def test_savepoints_of_the_connection_are_its_own(idiom: Idiom) -> None:
    """`begin_nested` of the connection undoes or keeps its part, and a session within it commits nothing."""

    @idiom.app.post("/nested/{n}")
    def nested(n: int, session: SessionDep) -> None:
        connection = session.connection()
        with connection.begin_nested():
            session.execute(INSERT, {"name": f"kept {n}"})
        undone = connection.begin_nested()
        session.execute(INSERT, {"name": f"undone {n}"})
        undone.rollback()
        with Session(connection) as other:
            other.execute(INSERT, {"name": f"inner {n}"})
            other.commit()

    assert idiom.statuses("/nested/{n}") == {200}
    assert idiom.names == [f"{part} {n}" for part in ("inner", "kept") for n in range(8)]
