"""Compiled queries and `session.get` on shared connections, without SQLAlchemy's execution."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import DateTime, Integer, Select, cast, event, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from lib.onetrip.connection.dialect import GUARD, SETTINGS
from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.compiled import compiled
from lib.onetrip.session.session import ReadingSession, transaction
from lib.onetrip.session.shared import SharingSession, async_sharing, sharing
from lib.onetrip.settings.settings import Settings
from lib.onetrip.shared_reads.read import NotShareableError
from lib.onetrip.shared_reads.seat import Seat
from tests.onetrip.network import until
from tests.onetrip.shared_reads.concurrent_reads import SECONDS, at_once, in_thread, run, without_session
from tests.onetrip.tables import Author

pytestmark = pytest.mark.slow

MOMENT = datetime(2030, 2, 3, 4, 5, 6, tzinfo=UTC)


@compiled
def echo(n: int) -> Select[int, str]:
    """The number, and the caller that the server knows of."""
    return select(cast(n, Integer).label("n"), func.current_setting("app.caller", True).label("caller"))


@compiled
def quotient(n: int) -> Select[int]:
    """A division by zero."""
    return select(1 / (cast(n, Integer) - cast(n, Integer)))


@compiled
def moment(text: str) -> Select[datetime]:
    """A moment, which is read by the time zone of its connection."""
    return select(cast(text, DateTime(timezone=True)))


@pytest.fixture
def shared(make_settings: Callable[..., Settings]) -> Iterator[Database]:
    """A database whose reads share connections, with two authors; nothing listens to its statements."""
    database = Database(make_settings(DATABASE_SHARED_READS="on", ENVIRONMENT="production"))
    with transaction(database) as session:
        session.add_all(Author(name=name, email=f"{name}@example.com") for name in ("ada", "bob"))
    yield database
    database.close()
    until(lambda: database.limiter.used == 0)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLAlchemy would execute fails."""
    monkeypatch.setattr(SharingSession, "_execute_internal", None)


def sent(database: Database) -> int:
    """The number of shared reads so far."""
    return database.shared_reads.report()["sent"]


async def echoed(database: Database, n: int) -> str:
    """Whether the answer is that of question `n`; every tenth asks without a caller."""
    caller = None if n % 10 == 0 else f"caller-{n}"
    options = {SETTINGS: {"app.caller": caller}} if caller else {}
    if n % 2:
        with deadline(SECONDS):
            async with async_sharing(database, options) as session:
                row = await echo.async_one(session, n)
    else:
        row = await in_thread(database, lambda session: echo.one(session, n), options)
    return "right" if (row.n, row.caller or None) == (n, caller) else "mixed"


@pytest.mark.usefixtures("alone")
def test_each_one_is_a_shared_read_with_its_own_answer(shared: Database) -> None:
    """In threads and in tasks, each with the settings of its own caller alone."""

    async def work() -> object:
        before = sent(shared)
        outcomes = await at_once(50, 400, lambda n: echoed(shared, n))
        assert sent(shared) - before >= 400
        return outcomes

    assert run(shared, work) == {"right": 400}


@pytest.mark.usefixtures("in_flight")
def test_without_a_session_they_are_shared_too(shared: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In threads and in tasks of requests; values and errors are the same; elsewhere nothing is shared."""

    async def echoed(n: int) -> str:
        if n % 2:
            row = await without_session(echo.async_one(shared, n))
        else:
            row = await without_session(lambda: echo.one(shared, n))
        return "right" if (row.n, row.caller or None) == (n, None) else "mixed"

    async def work() -> None:
        before = sent(shared)
        monkeypatch.setattr(ReadingSession, "__init__", None)
        assert await at_once(50, 400, echoed) == {"right": 400}
        assert sent(shared) - before == 400
        assert await without_session(moment.async_one(shared, MOMENT.isoformat())) == MOMENT
        for ask in (quotient.async_all(shared, 7), lambda: quotient.all(shared, 7)):
            with pytest.raises(DBAPIError, match="division by zero"):
                await without_session(ask)
        before = sent(shared)
        assert (await echo.async_one(shared, 7)).n == 7
        assert sent(shared) == before

    run(shared, work)


@pytest.mark.usefixtures("alone")
def test_instances_are_got_so(shared: Database) -> None:
    """`session.get` gives the session's own instance, or None; an async session does the same."""

    def query(session: Session) -> object:
        ada = session.get(Author, 1)
        assert ada
        assert session.get(Author, 1) is ada
        return ada.name, session.get(Author, 3)

    async def work() -> None:
        before = sent(shared)
        assert await in_thread(shared, query) == ("ada", None)
        with deadline(SECONDS):
            async with async_sharing(shared) as session:
                bob = await session.get(Author, 2)
                assert bob
                assert bob.email == "bob@example.com"
        assert sent(shared) - before == 3

    run(shared, work)


def test_values_and_errors_are_those_of_sqlalchemy(shared: Database) -> None:
    """Types by their columns and by the connection; SQLSTATE, deadline, guard; the session goes on."""
    slow = compiled(lambda seconds: select(func.pg_sleep(seconds)))

    def query(session: Session) -> None:
        assert moment.one(session, MOMENT.isoformat()) == MOMENT
        assert session.execute(moment.statement, {"text": MOMENT.isoformat()}).scalar_one() == MOMENT
        for ask in (lambda: quotient.all(session, 7), lambda: session.execute(quotient.statement, {"n": 7})):
            with pytest.raises(DBAPIError) as raised:
                ask()
            assert getattr(raised.value.orig, "sqlstate", None) == "22012"
            assert not raised.value.connection_invalidated
        with deadline(0.3), pytest.raises(DBAPIError) as raised:
            slow.all(session, 5)
        assert getattr(raised.value.orig, "sqlstate", None) == "57014"
        assert echo.one(session, 8).n == 8

    async def work() -> None:
        await in_thread(shared, query)
        with pytest.raises(DBAPIError, match="division by zero"):
            await in_thread(shared, lambda session: echo.one(session, 1), {GUARD: ("SELECT 1 / %s", [0])})

    run(shared, work)


def test_what_listens_to_statements_hears_of_it(shared: Database) -> None:
    """Then SQLAlchemy executes it, as a shared read all the same."""
    heard = []

    async def work() -> None:
        before = sent(shared)
        engine = shared.reading_engine
        listener: Any = lambda *_: heard.append(1)  # noqa: E731
        event.listen(engine, "before_cursor_execute", listener)
        try:
            assert (await in_thread(shared, lambda session: echo.one(session, 7))).n == 7
        finally:
            event.remove(engine, "before_cursor_execute", listener)
        assert sent(shared) - before == 1

    run(shared, work)
    assert heard == [1]


def test_one_that_was_not_sent_is_executed_by_sqlalchemy(
    shared: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the loop's connections are given back in that moment."""

    def refused(*_: Any) -> None:
        raise NotShareableError

    async def work() -> None:
        monkeypatch.setattr(Seat, "asked", refused)
        assert (await in_thread(shared, lambda session: echo.one(session, 7))).n == 7
        shared.shared_reads.close()
        assert (await in_thread(shared, lambda session: echo.one(session, 8))).n == 8

    run(shared, work)


@pytest.mark.usefixtures("alone")
def test_without_others_it_has_a_connection_of_its_own(shared: Database) -> None:
    """A session whose request is the only one asks in the same way, and shares nothing."""

    async def work() -> None:
        with deadline(SECONDS), sharing(shared) as session:
            assert (await asyncio.to_thread(echo.one, session, 7)).n == 7
        assert sent(shared) == 0

    asyncio.run(work())
