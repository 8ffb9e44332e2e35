"""Queries that are compiled once give what SQLAlchemy's own execution gives, in every session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from sqlalchemy import Select, event, func, literal_column, select
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound, StatementError
from sqlalchemy.orm import joinedload

from lib.onetrip.connection.dialect import GUARD, SETTINGS
from lib.onetrip.connection.moment import Moment
from lib.onetrip.deadlines import deadline
from lib.onetrip.errors import EndedSessionError
from lib.onetrip.observability.request_stats import RequestStats, collecting
from lib.onetrip.pool import validation
from lib.onetrip.pool.database import Database
from lib.onetrip.session import loading
from lib.onetrip.session.compiled import compiled
from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.tables import Author, Book, Genre

UNITS = pytest.mark.parametrize("unit", [reading, transaction])
USER = "current_setting('app.user_id', true)"


@compiled
def author_by_name(name: str) -> Select[Author]:
    """The author of that name."""
    return select(Author).where(Author.name == name)


@compiled
def books_of(genre: Genre, limit: int = 10) -> Select[Book]:
    """Some books of a genre."""
    return select(Book).where(Book.genre == genre).order_by(Book.id).limit(limit)


@compiled
def counts(least: int) -> Select[Genre, int]:
    """The genres with so many books, and their number."""
    count = func.count()
    return (
        select(Book.genre, count.label("books")).group_by(Book.genre).having(count >= least).order_by(count)
    )


@compiled
def names(ids: list[int]) -> Select[str]:
    """The names of these authors."""
    return select(Author.name).where(Author.id.in_(ids)).order_by(Author.id)


@compiled
def authors_with_books() -> Select[Author]:
    """Authors, and their books loaded with them."""
    return select(Author).options(joinedload(Author.books))


@compiled
def quotient(number: int) -> Select[Any]:
    """A division."""
    return select(1 / (func.length(Author.name) - 3)).where(Author.id == number)


@pytest.fixture
def filled(production: Database) -> Iterator[Database]:
    """Two authors, three books."""
    with transaction(production) as session:
        ada, bob = (Author(name=name, email=f"{name}@example.com") for name in ("ada", "bob"))
        books = [(ada, Genre.ESSAY), (ada, Genre.NOVEL), (bob, Genre.NOVEL)]
        session.add_all(
            Book(title=f"{n}", author=author, genre=genre) for n, (author, genre) in enumerate(books)
        )
    yield production
    production.close()


@pytest.fixture
def production(proxied_settings: Any) -> Database:
    """A database whose statements nothing but the watch for slow queries listens to."""
    return Database(proxied_settings(ENVIRONMENT="production"))


@UNITS
def test_instances_values_and_rows_are_those_of_sqlalchemy(filled: Database, unit: Any) -> None:
    """Types by their columns, enums too, rows with names; nothing, one and many."""
    with unit(filled) as session:
        ada = author_by_name.one(session, "ada")
        assert (ada.id, ada.email, ada.role, ada.is_active) == (1, "ada@example.com", "writer", True)
        assert author_by_name.first(session, name="nobody") is None
        assert author_by_name.all(session, "nobody") == []
        assert [book.title for book in books_of.all(session, Genre.NOVEL)] == ["1", "2"]
        assert [book.title for book in books_of.all(session, Genre.NOVEL, limit=1)] == ["1"]
        rows = counts.all(session, 1)
        assert [tuple(row) for row in rows] == [(Genre.ESSAY, 1), (Genre.NOVEL, 2)]
        assert (rows[0].genre, rows[0].books) == (Genre.ESSAY, 1)
        assert isinstance(rows[0].genre, Genre)
        assert names.all(session, [2, 1]) == ["ada", "bob"]


@UNITS
def test_an_instance_is_the_session_s_own(filled: Database, unit: Any) -> None:
    """The same row is the same object, whichever way it was asked for, and its relations load."""
    with unit(filled) as session:
        ada = author_by_name.one(session, "ada")
        assert session.get(Author, ada.id) is ada
        assert author_by_name.one(session, "ada") is ada
        assert ada in session
        assert [book.title for book in ada.books] == ["0", "1"]
        bob = session.get(Author, 2)
        assert author_by_name.one(session, "bob") is bob


def test_what_a_transaction_holds_is_written_before_it_asks(filled: Database) -> None:
    """A row that was only added is found, and one that was found is changed as any other."""
    with transaction(filled) as session:
        session.add(Author(name="newcomer", email="new@example.com"))
        author_by_name.one(session, "newcomer").email = "newer@example.com"
    with reading(filled) as session:
        assert author_by_name.one(session, "newcomer").email == "newer@example.com"


def test_a_reading_session_is_refused_what_it_was_to_write(filled: Database) -> None:
    """As SQLAlchemy's own queries are: what was added or changed is flushed before them."""
    for change in (
        lambda session: session.add(Author(name="newcomer", email="new@example.com")),
        lambda session: setattr(author_by_name.one(session, "ada"), "email", "newer@example.com"),
        lambda session: session.delete(author_by_name.one(session, "ada")),
    ):
        with reading(filled) as session, pytest.raises(DBAPIError) as raised:
            change(session)
            author_by_name.one(session, "ada")
        assert getattr(raised.value.orig, "sqlstate", None) == "25006"


@pytest.mark.anyio
@pytest.mark.parametrize("unit", [async_reading, async_transaction])
async def test_async_sessions_ask_as_sync_ones_do(filled: Database, unit: Any) -> None:
    """`async_all`, `async_first` and `async_one`."""
    async with unit(filled) as session:
        ada = await author_by_name.async_one(session, "ada")
        assert ada.email == "ada@example.com"
        assert await author_by_name.async_first(session, "nobody") is None
        assert [tuple(row) for row in await counts.async_all(session, least=2)] == [(Genre.NOVEL, 2)]
        with pytest.raises(NoResultFound):
            await author_by_name.async_one(session, "nobody")
    await filled.aclose()


@UNITS
def test_one_is_exactly_one(filled: Database, unit: Any) -> None:
    """Errors are SQLAlchemy's."""
    with unit(filled) as session:
        with pytest.raises(NoResultFound):
            author_by_name.one(session, "nobody")
        with pytest.raises(MultipleResultsFound):
            books_of.one(session, Genre.NOVEL)


def test_wrong_arguments_are_refused_as_a_function_refuses_them(filled: Database) -> None:
    """A missing one, an unknown one, one too many, one twice: TypeError, and nothing is sent."""
    wrong: Any = author_by_name
    with reading(filled) as session:
        calls: list[tuple[Any, Any]] = [((), {}), (("ada",), {"x": 1}), (("ada", 1), {})]
        for args, kwargs in [*calls, (("ada",), {"name": "bob"})]:
            with pytest.raises(TypeError, match="argument"):
                wrong.all(session, *args, **kwargs)


@pytest.mark.usefixtures("in_flight")
def test_a_reading_session_sends_it_without_sqlalchemy_s_execution(
    filled: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round trip with settings and guard, counted for the request; the connection keeps nothing of it."""
    seen: Any = select(Author.name, literal_column(USER).label("seen")).where(Author.id == 1)
    whose = compiled(lambda: seen)
    options = {SETTINGS: {"app.user_id": "7"}, GUARD: ("SELECT 1 / (%s - 1)", [2])}
    with reading(filled, options) as session:
        monkeypatch.setattr(type(session), "_execute_internal", None)
        for _ in range(2):
            with deadline(10), proxy.counting() as flights, collecting(RequestStats()) as stats:
                (row,) = whose.all(session)
            assert (row.seen, flights(), stats.round_trips) == ("7", 1, 1)
    with reading(filled) as session:
        assert whose.one(session).seen in {None, ""}
    monkeypatch.undo()
    assert filled.pool_state.checked_out == 0
    refusing = {GUARD: ("SELECT 1 / %s", [0])}
    with reading(filled, refusing) as session, pytest.raises(DBAPIError, match="division by zero"):
        whose.all(session)
    with transaction(filled) as session:
        session.add(Author(name="cleo", email="cleo@example.com"))


def test_errors_are_those_of_sqlalchemy(filled: Database) -> None:
    """The SQLSTATE is there, a deadline ends it, parameters are hidden, and the session goes on."""
    slow = compiled(lambda seconds: select(func.pg_sleep(seconds)))
    with reading(filled) as session:
        with pytest.raises(DBAPIError) as raised:
            quotient.all(session, 1)
        assert getattr(raised.value.orig, "sqlstate", None) == "22012"
        with deadline(0.5), pytest.raises(DBAPIError) as raised:
            slow.all(session, 5)
        assert getattr(raised.value.orig, "sqlstate", None) == "57014"
        assert author_by_name.one(session, "ada").id == 1
        wrong: Any = "poem"
        with pytest.raises(StatementError, match="poem"):
            books_of.all(session, wrong)
    with pytest.raises(EndedSessionError):
        author_by_name.all(session, "ada")


def test_a_lost_connection_is_replaced(filled: Database, proxy: Proxy) -> None:
    """The error says that the connection was lost, by which a request is run again."""
    with reading(filled) as session:
        author_by_name.all(session, "ada")
        with proxy.cut_after(1), pytest.raises(DBAPIError) as raised:
            author_by_name.all(session, "ada")
        assert raised.value.connection_invalidated
        assert author_by_name.one(session, "ada").id == 1


@pytest.mark.parametrize("seconds", [0.0, validation.PING_AFTER_SECONDS])
def test_a_connection_that_is_gone_is_not_asked(
    filled: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """One that ended meanwhile, or fell silent, is replaced before it is used, and others with it."""
    monkeypatch.setattr(validation, "PING_SECONDS", 0.1)
    with reading(filled) as session:
        author_by_name.all(session, "ada")
        before = proxy.connections
        if seconds:
            monkeypatch.setattr(Moment, "age_seconds", seconds)
            proxy.forget()
        else:
            proxy.hang_up()
        assert author_by_name.one(session, "ada").id == 1
        monkeypatch.undo()
        assert author_by_name.one(session, "bob").id == 2
        assert proxy.connections == before + 1
    assert filled.pool_state.checked_out == 0


def test_listeners_of_the_pool_see_its_connection(filled: Database) -> None:
    """A checkout with the connection, and one return of it; who listens to resets hears of those too."""
    seen: list[Any] = []
    with reading(filled) as session:
        event.listen(filled.engine, "checkout", lambda _, __, proxied: seen.append(proxied.driver_connection))
        event.listen(filled.engine, "checkin", lambda connection, _: seen.append(connection))
        author_by_name.one(session, "ada")
        assert len(seen) == 2
        assert seen[0] is seen[1]
        event.listen(filled.engine, "reset", lambda *_: seen.append("reset"))
        author_by_name.one(session, "bob")
    assert seen[3:] == ["reset", seen[0]]


def test_listeners_hear_of_it(filled: Database) -> None:
    """Where an application listens to statements or to queries of a session, SQLAlchemy executes it."""
    heard: list[object] = []
    with reading(filled) as session:
        author_by_name.one(session, "ada")
        event.listen(filled.engine, "before_cursor_execute", lambda *a: heard.append(a))
        author_by_name.one(session, "bob")
    assert len(heard) == 1
    with reading(filled) as session:
        event.listen(session, "do_orm_execute", heard.append)
        author_by_name.one(session, "bob")
    assert len(heard) == 3


def test_a_slow_one_is_logged(proxied_settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With its text, without its parameters."""
    database = Database(proxied_settings(ENVIRONMENT="production", SLOW_QUERY_SECONDS="0.2"))
    slow = compiled(lambda seconds: select(func.pg_sleep(seconds)))
    with reading(database) as session:
        slow.all(session, 0.3)
    (record,) = [record for record in caplog.records if record.getMessage() == "slow query"]
    assert "pg_sleep" in record.fields["statement"]  # type: ignore[attr-defined]
    assert "0.3" not in record.fields["statement"]  # type: ignore[attr-defined]
    database.close()


def test_statements_that_need_more_than_their_rows_are_executed_by_sqlalchemy(filled: Database) -> None:
    """Eager loading, lists in IN, rows for update: the loader leaves them alone."""
    dialect = filled.engine.dialect
    assert loading.loader_of(author_by_name.statement, dialect)
    for query in (authors_with_books, names):
        assert loading.loader_of(query.statement, dialect) is None
    assert loading.loader_of(select(Author).with_for_update(), dialect) is None
    assert loading.loader_of(cast(Any, select(Author, Book)), dialect) is None
    with reading(filled) as session:
        found = session.execute(authors_with_books.statement).unique().scalars().all()
        assert len(found[0].books) == 2
