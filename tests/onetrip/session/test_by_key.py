"""`get` of a reading session gives what SQLAlchemy's own gives, with less work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    NoInspectionAvailable,
    OperationalError,
)
from sqlalchemy.orm import Session, defer

from lib.onetrip.deadlines import deadline
from lib.onetrip.errors import ConcurrentUseError, EndedSessionError
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, reading, transaction
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.tables import Author


@pytest.fixture
def filled(proxied_settings: Any) -> Iterator[Database]:
    """A database with two authors, whose statements nothing of the application's listens to."""
    database = Database(proxied_settings(ENVIRONMENT="production", SLOW_QUERY_SECONDS="0.000001"))
    with transaction(database) as session:
        session.add_all(Author(name=name, email=f"{name}@example.com") for name in ("ada", "bob"))
    yield database
    database.close()


def test_an_instance_is_got_without_sqlalchemy_s_execution(
    filled: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once from the database, then from the session, which has let go of it in the end; or there is none."""
    with reading(filled) as session:
        monkeypatch.setattr(type(session), "_execute_internal", None)
        ada = session.get(Author, 1)
        assert ada is not None
        assert (ada.name, ada.role, ada in session) == ("ada", "writer", True)
        with proxy.counting() as flights:
            assert session.get(Author, 1) is ada
        assert flights() == 0
        assert session.get(Author, 404) is None
        assert session.get_one(Author, 1) is ada
        monkeypatch.undo()
        assert ada.books == []
    assert ada not in session
    assert filled.pool_state.checked_out == 0


def test_the_statement_is_sqlalchemy_s(filled: Database, caplog: pytest.LogCaptureFixture) -> None:
    """To the letter, so that logs and the server's statistics name one statement."""
    with reading(filled) as session:
        session.get(Author, 1)
    with transaction(filled) as session:
        session.get(Author, 1)
    told = [record.fields["statement"] for record in caplog.records if record.getMessage() == "slow query"]  # type: ignore[attr-defined]
    assert len(told) >= 2
    assert told[-1] == told[-2]
    assert "WHERE authors.id = %(pk_1)s" in told[-1]


@pytest.mark.parametrize("key", [(1,), [1], {"id": 1}])
def test_keys_of_other_shapes_are_sqlalchemy_s(filled: Database, key: Any) -> None:
    """Tuples, lists and dictionaries; a wrong one has SQLAlchemy's error."""
    with reading(filled) as session:
        found = session.get(Author, key)
        assert found is not None
        assert found.name == "ada"
        with pytest.raises(InvalidRequestError, match="Incorrect number"):
            session.get(Author, (1, 2))
        with pytest.raises(NoInspectionAvailable):
            session.get(int, 1)


def test_options_are_sqlalchemy_s(filled: Database) -> None:
    """What is loaded otherwise, or anew."""
    with reading(filled) as session:
        ada = session.get(Author, 1, options=[defer(Author.email)])
        assert ada is not None
        assert "email" not in vars(ada)
        with transaction(filled) as other:
            changed = other.get(Author, 1)
            assert changed is not None
            changed.role = "editor"
        assert session.get(Author, 1) is ada
        assert ada.role == "writer"
        session.get(Author, 1, populate_existing=True)
        assert ada.role == "editor"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        *((Session, name) for name in ("do_orm_execute", "after_begin", "after_transaction_create")),
        (Session, "loaded_as_persistent"),
        (Author, "load"),
    ],
)
def test_listeners_hear_of_it(filled: Database, target: Any, name: str) -> None:
    """Of a session's events and of the class's, also where they come after the first time."""
    heard: list[Any] = []

    def hear(*arguments: Any) -> None:
        heard.append(arguments)

    with reading(filled) as session:
        session.get(Author, 1)
    event.listen(target, name, hear)
    try:
        with reading(filled) as session:
            assert session.get(Author, 2) is not None
    finally:
        event.remove(target, name, hear)
    assert len(heard) == 1


def test_what_was_added_is_flushed_first(filled: Database) -> None:
    """As before every query; a reading session is refused the write."""
    with reading(filled) as session, pytest.raises(DBAPIError) as raised:
        session.add(Author(name="newcomer", email="new@example.com"))
        session.get(Author, 1)
    assert getattr(raised.value.orig, "sqlstate", None) == "25006"


def test_errors_are_those_of_sqlalchemy(filled: Database) -> None:
    """With the statement and its SQLSTATE, also where the deadline is over; an ended session is refused."""
    with reading(filled) as session:
        with pytest.raises(DBAPIError) as raised:
            session.get(Author, 2**70)
        assert (raised.value.statement or "").startswith("SELECT authors.id, authors.name")
        assert getattr(raised.value.orig, "sqlstate", None) == "22003"
        with deadline(0), pytest.raises(DBAPIError) as raised:
            session.get(Author, 1)
        assert getattr(raised.value.orig, "sqlstate", None) == "57014"
    with pytest.raises(EndedSessionError):
        session.get(Author, 1)


def test_a_server_that_is_not_there_is_sqlalchemy_s_error(filled: Database, proxy: Proxy) -> None:
    """One of the engine's kind, as of any query."""
    filled.engine.dispose()
    with proxy.down(), deadline(1), reading(filled) as session, pytest.raises(OperationalError):
        session.get(Author, 1)
    assert filled.pool_state.checked_out == 0


@pytest.mark.anyio
async def test_one_task_at_a_time_asks(filled: Database) -> None:
    """Two at once are refused, and the first has its answer."""
    async with async_reading(filled) as session:
        found = await asyncio.gather(session.get(Author, 1), session.get(Author, 2), return_exceptions=True)
        first, second = found
        assert isinstance(first, Author)
        assert isinstance(second, ConcurrentUseError)
        assert await session.get(Author, 1) is first
    await filled.aclose()
