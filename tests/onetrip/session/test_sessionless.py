"""Compiled queries that are asked of a database give what a session's give, without a session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Integer, Select, cast, event, func, inspect, select
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound, StatementError
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.exc import DetachedInstanceError

from lib.onetrip.deadlines import deadline
from lib.onetrip.errors import SecondConnectionError
from lib.onetrip.observability.request_stats import RequestStats, collecting
from lib.onetrip.pool.database import Database
from lib.onetrip.pool.unit import one_unit
from lib.onetrip.session.compiled import compiled
from lib.onetrip.session.session import ReadingSession, reading, transaction
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.tables import Author, Book, Genre


@compiled
def author_by_name(name: str) -> Select[Author]:
    """The author of that name."""
    return select(Author).where(Author.name == name)


@compiled
def writers(genre: Genre) -> Select[Author]:
    """The author of each book of a genre, once for each."""
    return select(Author).join(Book).where(Book.genre == genre).order_by(Book.id)


@compiled
def counts(least: int) -> Select[Genre, int]:
    """The genres with so many books, and their number."""
    count = func.count()
    return select(Book.genre, count.label("books")).group_by(Book.genre).having(count >= least)


@compiled
def author_with_books(name: str) -> Select[Author]:
    """An author, and the books with it."""
    return select(Author).options(selectinload(Author.books)).where(Author.name == name)


@compiled
def quotient(number: int) -> Select[Any]:
    """A division."""
    return select(1 / cast(number, Integer))


@compiled
def slept(seconds: float) -> Select[Any]:
    """A slow statement."""
    return select(func.pg_sleep(seconds))


@pytest.fixture
def filled(proxied_settings: Any) -> Iterator[Database]:
    """An author with two novels; nothing listens to statements."""
    database = Database(proxied_settings(ENVIRONMENT="production"))
    with transaction(database) as session:
        ada = Author(name="ada", email="ada@example.com")
        session.add_all(Book(title=title, author=ada, genre=Genre.NOVEL) for title in ("0", "1"))
    yield database
    database.close()


def test_results_are_those_of_a_session(filled: Database) -> None:
    """Types by their columns, rows with names; nothing, one and many."""
    ada = author_by_name.one(filled, "ada")
    assert (ada.name, ada.email, ada.is_active) == ("ada", "ada@example.com", True)
    assert author_by_name.first(filled, name="nobody") is None
    (row,) = counts.all(filled, 1)
    assert (row.genre, row.books) == (Genre.NOVEL, 2)
    assert isinstance(row.genre, Genre)
    with pytest.raises(NoResultFound):
        author_by_name.one(filled, "nobody")
    with pytest.raises(MultipleResultsFound):
        writers.one(filled, Genre.NOVEL)
    wrong: Any = author_by_name
    with pytest.raises(TypeError, match="argument"):
        wrong.one(filled)


def test_instances_belong_to_no_session(filled: Database) -> None:
    """A row is one object within a result; relations are not loaded; a session may take it in."""
    ada, same = writers.all(filled, Genre.NOVEL)
    assert ada is same
    assert inspect(ada).detached
    assert author_by_name.one(filled, "ada") is not ada
    with pytest.raises(DetachedInstanceError):
        _ = ada.books
    with transaction(filled) as session:
        session.add(ada)
        ada.email = "countess@example.com"
        assert [book.title for book in ada.books] == ["0", "1"]
    assert author_by_name.one(filled, "ada").email == "countess@example.com"


@pytest.mark.usefixtures("in_flight")
def test_it_takes_one_round_trip_and_no_session(
    filled: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted for the request; the connection goes back and is not read-only for the next one."""
    author_by_name.one(filled, "ada")
    monkeypatch.setattr(ReadingSession, "__init__", None)
    with deadline(10), proxy.counting() as flights, collecting(RequestStats()) as stats:
        author_by_name.one(filled, "ada")
        assert (flights(), stats.round_trips) == (1, 1)
    assert filled.pool_state.checked_out == 0
    with transaction(filled) as session:
        session.add(Author(name="bob", email="bob@example.com"))


@pytest.mark.anyio
async def test_async_code_asks_in_the_same_way(filled: Database) -> None:
    """On the connections of async sessions; errors are the same."""
    ada = await author_by_name.async_one(filled, "ada")
    assert inspect(ada).detached
    assert await author_by_name.async_first(filled, "nobody") is None
    assert len(await writers.async_all(filled, Genre.NOVEL)) == 2
    assert (await author_with_books.async_one(filled, "ada")).books[1].title == "1"
    with pytest.raises(DBAPIError, match="division by zero"):
        await quotient.async_all(filled, 0)
    assert filled.pool_state.checked_out == 0
    await filled.aclose()


def test_errors_are_those_of_sqlalchemy(filled: Database) -> None:
    """The SQLSTATE is there, a deadline ends it, a value that its type does not take is told."""
    with pytest.raises(DBAPIError) as raised:
        quotient.all(filled, 0)
    assert getattr(raised.value.orig, "sqlstate", None) == "22012"
    with deadline(0.5), pytest.raises(DBAPIError) as raised:
        slept.all(filled, 5)
    assert getattr(raised.value.orig, "sqlstate", None) == "57014"
    wrong: Any = "poem"
    with pytest.raises(StatementError, match="poem"):
        writers.all(filled, wrong)
    assert author_by_name.one(filled, "ada").id == 1


def test_a_lost_connection_is_replaced(filled: Database, proxy: Proxy) -> None:
    """The error says that the connection was lost, by which a request is run again."""
    author_by_name.one(filled, "ada")
    with proxy.cut_after(1), pytest.raises(DBAPIError) as raised:
        author_by_name.one(filled, "ada")
    assert raised.value.connection_invalidated
    assert author_by_name.one(filled, "ada").id == 1


def test_a_write_is_refused(filled: Database) -> None:
    """By the server, as in every reading session."""
    writing = compiled(lambda: select(func.nextval("authors_id_seq")))
    with pytest.raises(DBAPIError) as raised:
        writing.all(filled)
    assert getattr(raised.value.orig, "sqlstate", None) == "25006"


def test_what_needs_a_session_has_one(filled: Database) -> None:
    """Loader options, and whatever listens to sessions or statements; the session ends with the query."""
    assert [book.title for book in author_with_books.one(filled, "ada").books] == ["0", "1"]
    heard: list[object] = []
    hear: Any = lambda *arguments: heard.append(arguments)  # noqa: E731  (removed again)
    event.listen(Session, "do_orm_execute", hear)
    try:
        assert inspect(author_by_name.one(filled, "ada")).detached
    finally:
        event.remove(Session, "do_orm_execute", hear)
    assert len(heard) == 1
    event.listen(filled.engine, "before_cursor_execute", hear)
    author_by_name.one(filled, "ada")
    assert len(heard) == 2
    assert filled.pool_state.checked_out == 0


def test_a_request_has_one_connection_for_both(filled: Database) -> None:
    """Beside a session that holds it the query is refused at once, as another session is; after it, not."""
    with one_unit():
        with transaction(filled) as session:
            session.execute(select(func.txid_current()))
            for ask in (lambda: author_by_name.one(filled, "ada"), lambda: _asked_by_another(filled)):
                with pytest.raises(SecondConnectionError, match="one connection at a time"):
                    ask()
        assert author_by_name.one(filled, "ada").id == 1


def _asked_by_another(database: Database) -> None:
    with reading(database) as session:
        author_by_name.one(session, "ada")


def test_a_slow_one_is_logged(proxied_settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With its text, without its parameters."""
    database = Database(proxied_settings(ENVIRONMENT="production", SLOW_QUERY_SECONDS="0.2"))
    slept.all(database, 0.3)
    (record,) = [record for record in caplog.records if record.getMessage() == "slow query"]
    assert "pg_sleep" in record.fields["statement"]  # type: ignore[attr-defined]
    database.close()
