"""Statements that are asked together are answered together."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.batch import async_batch, batch
from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.tables import Author, Book

TIMEOUT = text("SELECT current_setting('statement_timeout')")


@pytest.fixture
def authors(proxied_database: Database) -> None:
    """Three authors, and connections of both kinds that are open already."""
    with transaction(proxied_database) as session:
        session.add_all([Author(name=f"user{n}", email=f"user{n}@example.com") for n in range(3)])


@pytest.mark.usefixtures("in_flight", "authors")
@pytest.mark.parametrize("unit", [reading, transaction])
def test_independent_reads_take_one_round_trip(
    proxied_database: Database, proxy: Proxy, unit: object
) -> None:
    """Three results of three kinds come from one round trip, with the timeout in force."""
    with deadline(10), unit(proxied_database) as session, proxy.counting() as flights:  # type: ignore[operator]
        authors, count, timeout = batch(session, select(Author).order_by(Author.id), _count(), TIMEOUT)
        assert [user.name for user in authors.scalars()] == ["user0", "user1", "user2"]
        assert count.scalar_one() == 3
        assert timeout.scalar_one() != "0"
        assert flights() == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("in_flight", "authors")
@pytest.mark.parametrize("unit", [async_reading, async_transaction])
async def test_independent_async_reads_take_one_round_trip(
    proxied_database: Database, proxy: Proxy, unit: object
) -> None:
    """Async sessions ask together as sync ones do."""
    async with async_reading(proxied_database) as session:
        await session.scalar(text("SELECT 1"))
    with deadline(10):
        async with unit(proxied_database) as session:  # type: ignore[operator]
            with proxy.counting() as flights:
                authors, count, timeout = await async_batch(
                    session, select(Author).order_by(Author.id), _count(), TIMEOUT
                )
                assert [user.name for user in authors.scalars()] == ["user0", "user1", "user2"]
                assert count.scalar_one() == 3
                assert timeout.scalar_one() != "0"
                assert flights() == 1
    await proxied_database.aclose()


def test_what_the_session_holds_is_written_before_it_asks(proxied_database: Database) -> None:
    """A row that was only added is seen by the statements that are asked together."""
    with transaction(proxied_database) as session:
        session.add(Author(name="newcomer", email="new@example.com"))
        authors, count = batch(session, select(Author), _count())
        assert (authors.scalar_one().name, count.scalar_one()) == ("newcomer", 1)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_statement_that_fails_fails_them_all_with_its_own_error(
    proxied_database: Database, position: int
) -> None:
    """The error has the failing statement's SQLSTATE and text, and the connection serves on."""
    statements = [text("SELECT 1"), text("SELECT 2"), text("SELECT 3")]
    statements[position] = text("SELECT 1/0")
    with pytest.raises(DBAPIError) as raised, transaction(proxied_database) as session:
        batch(session, *statements)
    assert raised.value.orig is not None
    assert getattr(raised.value.orig, "sqlstate", None) == "22012"
    assert raised.value.statement == "SELECT 1/0"
    with reading(proxied_database) as session:
        assert session.scalar(text("SELECT 4")) == 4
    assert proxied_database.engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # a QueuePool


def test_an_error_rolls_back_what_was_asked_together(proxied_database: Database) -> None:
    """Writes that went along with a failing one are not stored."""
    insert = sqlalchemy.insert(Author).values(name="first", email="first@example.com")
    orphan = sqlalchemy.insert(Book).values(author_id=2**40, title="whose?")
    with pytest.raises(IntegrityError), transaction(proxied_database) as session:
        batch(session, insert, orphan)
    with reading(proxied_database) as session:
        assert session.scalars(_count()).one() == 0


def test_the_plain_driver_answers_the_same_one_after_the_other(make_settings: object) -> None:
    """With the single flight off the statements are executed in turn, with equal results."""
    database = Database(make_settings(DATABASE_SINGLE_FLIGHT="off"))  # type: ignore[operator]
    with reading(database) as session:
        one, two = batch(session, text("SELECT 1"), text("SELECT 2"))
        assert (one.scalar_one(), two.scalar_one()) == (1, 2)
    database.close()


def test_sqlalchemy_keeps_rows_where_we_put_them() -> None:
    """The two private names that async statements need exist in SQLAlchemy 2.1 (`_cursor`, `_rows`)."""
    from sqlalchemy.dialects.postgresql.psycopg import AsyncAdapt_psycopg_cursor  # noqa: PLC0415

    names = {name for base in AsyncAdapt_psycopg_cursor.__mro__ for name in getattr(base, "__slots__", ())}
    assert {"_cursor", "_rows"} <= names
    assert sqlalchemy.__version__.startswith("2.1.")
    assert psycopg.__version__.startswith("3.3.")


def _count() -> sqlalchemy.Select[int]:
    return select(func.count()).select_from(Author)
