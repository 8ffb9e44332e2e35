"""`LAST`: the COMMIT goes with the statement that ends a unit of work, and with no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import bindparam, exc, insert, select, text, update
from sqlalchemy.orm import Session

from lib.onetrip.connection.cursor import COMMITS
from lib.onetrip.connection.dialect import LAST
from lib.onetrip.deadlines import deadline
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import Units
from tests.onetrip.tables import Author

MANY = 2500
STREAMED = {**LAST, "stream_results": True}


@pytest.fixture
def names(servers: Servers, database_name: str) -> Iterator[Callable[[], list[str]]]:
    """The names that are stored, as another client sees them."""
    url = servers.url("direct", database_name)
    with psycopg.connect(**url.connect_arguments(), autocommit=True) as connection:  # type: ignore[arg-type]
        yield lambda: [row[0] for row in connection.execute("SELECT name FROM authors ORDER BY id")]


def _rows(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "email": f"{name}@example.com"} for name in names]


def _insert(session: Session, name: str, **options: object) -> None:
    statement = insert(Author).values(_rows(name)[0]).returning(Author)
    session.scalars(statement, execution_options=options).one()


@pytest.mark.usefixtures("in_flight")
def test_the_last_statement_commits_what_came_before_it(
    units: Units, proxy: Proxy, names: Callable[[], list[str]]
) -> None:
    """A unit of several statements ends with its last one: as many round trips as statements."""
    units.connected(lambda _: None)

    def work(session: Session) -> None:
        session.add(Author(**_rows("ada")[0]))
        session.flush()
        _insert(session, "grace", **LAST)
        assert names() == ["ada", "grace"]

    with proxy.counting() as flights:
        units.transaction(work)
    assert flights() == 2
    assert names() == ["ada", "grace"]


@pytest.mark.usefixtures("in_flight")
def test_what_follows_the_last_statement_reads_and_does_not_write(
    units: Units, proxy: Proxy, names: Callable[[], list[str]]
) -> None:
    """After it, reads take a round trip each under the timeouts, and a write is refused rather than lost."""
    units.connected(lambda _: None)

    def read(session: Session) -> Any:
        _insert(session, "ada", **LAST)
        in_force = text("SELECT current_setting('statement_timeout') <> '0'")
        return session.scalars(select(Author.name)).all(), session.scalar(in_force)

    with deadline(30), proxy.counting() as flights:
        assert units.transaction(read) == (["ada"], True)
    assert flights() == 3

    def write(session: Session) -> None:
        _insert(session, "grace", **LAST)
        _insert(session, "mary")

    with pytest.raises(exc.InternalError) as caught:
        units.transaction(write)
    assert caught.value.orig.sqlstate == "25006"  # type: ignore[union-attr]  # psycopg's
    assert names() == ["ada", "grace"]


@pytest.mark.usefixtures("in_flight")
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_next_unit_of_the_same_session_writes_again(
    units: Units, names: Callable[[], list[str]], end: str
) -> None:
    """A commit or a rollback after the last statement sends nothing and begins a unit like any other."""

    def work(session: Session) -> None:
        _insert(session, "ada", **LAST)
        getattr(session, end)()
        _insert(session, "grace")
        session.commit()

    units.session(work)
    assert names() == ["ada", "grace"]


def test_within_a_savepoint_nothing_is_committed(units: Units, names: Callable[[], list[str]]) -> None:
    """The last statement of a savepoint is not the unit's: all of it is still undone together."""

    def work(session: Session) -> None:
        with session.begin_nested():
            _insert(session, "ada", **LAST)
        assert names() == []
        session.rollback()

    units.session(work)
    assert names() == []


def _many(session: Session) -> None:
    rows = [*_rows(*(f"user{number}" for number in range(MANY))), *_rows("x")]
    session.scalars(insert(Author).returning(Author.id), rows, execution_options=LAST).all()


def _each(session: Session) -> None:
    session.execute(insert(Author), _rows("ada", "x"), execution_options=LAST)


def _unlike(session: Session) -> None:
    rows: list[dict[str, str]] = [*_rows("ada"), {**_rows("x")[0], "role": "admin"}]
    session.execute(insert(Author), rows, execution_options=LAST)


def _changed_unlike(session: Session) -> None:
    session.add_all([ada := Author(**_rows("ada")[0]), grace := Author(**_rows("grace")[0])])
    session.flush()
    changes = [{"id": ada.id, "name": "countess"}, {"id": grace.id, "email": "g@b.c", "name": "x"}]
    session.execute(update(Author), changes, execution_options=LAST)


def _changed(session: Session) -> None:
    session.execute(insert(Author), _rows("ada", "grace"))
    statement = update(Author).where(Author.name == bindparam("old")).values(name=bindparam("new"))
    changes = [{"old": "ada", "new": "countess"}, {"old": "grace", "new": "x"}]
    session.connection().execute(statement, changes, execution_options=LAST)


@pytest.mark.parametrize("work", [_many, _each, _unlike, _changed, _changed_unlike])
def test_many_rows_are_stored_together_or_not_at_all(
    units: Units, names: Callable[[], list[str]], work: Callable[[Session], None]
) -> None:
    """Rows that go out in several batches commit none of them before the last has succeeded."""
    with pytest.raises(exc.IntegrityError):
        units.transaction(work)
    assert names() == []


def test_a_stream_takes_no_commit_along_and_leaves_none_behind(
    units: Units, names: Callable[[], list[str]]
) -> None:
    """A statement outside the pipeline ends no unit, and the COMMIT is not sent with a later one instead."""
    units.transaction(lambda session: session.execute(text("SELECT 1"), execution_options=STREAMED).all())

    def work(session: Session) -> None:
        session.execute(text("SELECT 1"), execution_options=STREAMED).all()
        driver: Any = session.connection().connection.driver_connection
        units.settle(driver.execute("INSERT INTO authors (name, email) VALUES ('ada', 'a@b.c')"))
        session.rollback()

    units.session(work)
    assert names() == []


def test_in_autocommit_it_changes_nothing(units: Units, names: Callable[[], list[str]]) -> None:
    """In AUTOCOMMIT, where every statement is its own unit, there is nothing to commit."""
    statement = text("INSERT INTO authors (name, email) VALUES ('ada', 'a@b.c')")
    units.connected(
        lambda connection: connection.execute(statement, execution_options=LAST), isolation_level="AUTOCOMMIT"
    )
    assert names() == ["ada"]


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        " end;",
        "-- it's done\nCOMMIT",
        "/* x */ commit",
        "INSERT INTO a VALUES ('it''s;'); commit",
        "INSERT INTO a VALUES (1) -- don't\n; -- can't\n END",
        "DO $a$ BEGIN PERFORM 1; END $a$; COMMIT",
        "SELECT 3-1; /* ; */ PREPARE  TRANSACTION 'x'",
    ],
)
def test_a_commit_that_is_a_statement_is_known(statement: str) -> None:
    """By itself or after others: what it stored is not asked for again."""
    assert COMMITS.match(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT ';commit'",
        'SELECT "a;end"',
        "DO $$ BEGIN PERFORM 1; END $$",
        "SELECT 1 -- ; commit",
        "SELECT 1 /* ; end */",
        "commits",
    ],
)
def test_a_word_in_quotes_or_comments_is_no_commit(statement: str) -> None:
    """A conflict in it is told as a conflict, not as an unknown outcome."""
    assert not COMMITS.match(statement)
