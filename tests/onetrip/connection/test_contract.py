"""An engine, a connection, a cursor keep the contract of SQLAlchemy, psycopg and DBAPI in every use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, event, exc, text
from sqlalchemy.orm import Session

from lib.onetrip.connection.dialect import GUARD, LAST, SETTINGS
from lib.onetrip.connection.flights import SUSPECT_AFTER_SECONDS
from lib.onetrip.connection.protocol import PATIENCE_SECONDS
from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.session.batch import batch
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import READING, Units

AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}
READING_AUTOCOMMIT = {"postgresql_readonly": True, **AUTOCOMMIT}
ROLE = {SETTINGS: {"role": "pg_monitor"}}
MEGABYTE = 1_000_000
INSERT = "INSERT INTO notes VALUES ({})"
SCHEMA = """
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE notes (
    id int PRIMARY KEY, text text, parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED
);
GRANT ALL ON notes TO pg_monitor;
CREATE PROCEDURE two_steps() LANGUAGE plpgsql AS
    'BEGIN INSERT INTO notes VALUES (1); COMMIT; INSERT INTO notes VALUES (2); COMMIT; END'
"""


@pytest.fixture(autouse=True)
def stored(servers: Servers, database_name: str) -> Callable[[], list[int]]:
    """The numbers of the notes that are stored, as another client sees them."""
    servers.administer(SCHEMA, database_name)
    return lambda: [
        number for (number,) in servers.administer("SELECT id FROM notes ORDER BY 1", database_name)
    ]


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _other_cursors(units: Units) -> tuple[Any, ...]:
    if units.is_async:
        return (psycopg.AsyncCursor, psycopg.AsyncClientCursor, psycopg.AsyncRawCursor)
    return (psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor)


def _asked(units: Units, cursor: Any, statement: str) -> Any:
    units.settle(cursor.execute(statement))
    return units.settle(cursor.fetchone())


# Every message is answered


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, READING, AUTOCOMMIT], ids=["transaction", "reading", "autocommit"])
def test_a_large_statement_is_sent_to_its_last_byte(units: Units, options: dict[str, Any]) -> None:
    """A first statement that fits into no buffer is answered, even while its answer is as large."""
    value = "y" * (20 * MEGABYTE)

    def work(connection: Connection) -> None:
        assert connection.scalar(text("SELECT length(:x)"), {"x": value}) == len(value)
        connection.rollback()
        assert connection.scalar(text("SELECT :x || :x"), {"x": value}) == value * 2

    with deadline(60):
        units.connected(work, **options)


@pytest.mark.parametrize("first", [True, False])
def test_too_many_parameters_are_refused_at_once(units: Units, first: bool) -> None:  # noqa: FBT001  (a case)
    """One more than the protocol counts to is an error that names the remedy; the connection goes on."""

    def work(connection: Connection) -> int:
        if not first:
            connection.execute(text("SELECT 1"))
        with pytest.raises(exc.OperationalError, match="one array") as caught:
            connection.exec_driver_sql(f"SELECT 1 IN ({', '.join(['%s'] * 65_536)})", tuple(range(65_536)))
        assert (caught.value.orig.sqlstate, caught.value.connection_invalidated) == ("54000", False)  # type: ignore[union-attr]
        return int(connection.scalar(text("SELECT 5")) or 0)

    with deadline(30):
        assert units.connected(work) == 5


@pytest.mark.parametrize(
    ("direction", "options"),
    [
        ("TO STDOUT", {}),
        ("TO STDOUT", READING),
        ("TO STDOUT", AUTOCOMMIT),
        ("FROM STDIN", {}),
        ("FROM STDIN", AUTOCOMMIT),
    ],
    ids=["out", "out, reading", "out, autocommit", "in", "in, autocommit"],
)
def test_a_copy_in_the_wrong_place_is_an_error_at_once(
    units: Units, direction: str, options: dict[str, Any]
) -> None:
    """COPY by `execute` waits for data that never come: psycopg's error names the method for it."""
    with deadline(30), pytest.raises(exc.ProgrammingError, match=r"use copy\(\) instead"):
        units.connected(lambda connection: connection.exec_driver_sql(f"COPY notes {direction}"), **options)


# Statements about transactions

NEED_TRANSACTION = (
    *("SAVEPOINT a", "RELEASE a", "ROLLBACK TO a", "/* a */ rollback work -- b\n to savepoint a"),
    *("LOCK TABLE notes", "DECLARE a CURSOR FOR SELECT 1"),
)


@pytest.mark.parametrize("options", [READING_AUTOCOMMIT, AUTOCOMMIT], ids=["reading", "autocommit"])
@pytest.mark.parametrize("statement", NEED_TRANSACTION)
def test_what_would_do_nothing_outside_a_transaction_is_refused(
    units: Units, statement: str, options: dict[str, Any]
) -> None:
    """In AUTOCOMMIT the server refuses savepoints, locks and cursors, as it does a plain driver's."""

    def work(connection: Connection) -> int:
        with pytest.raises(exc.DBAPIError) as caught:
            connection.execute(text(statement))
        assert getattr(caught.value.orig, "sqlstate", None) == "25P01"
        return int(connection.scalar(text("SELECT 5")) or 0)

    assert units.connected(work, **options) == 5


def test_a_savepoint_undone_in_autocommit_stores_nothing(
    units: Units, stored: Callable[[], list[int]]
) -> None:
    """`begin_nested()` in AUTOCOMMIT is refused before its statements, which nothing could undo."""

    def work(connection: Connection) -> None:
        with connection.begin_nested():
            connection.execute(text(INSERT.format(1)))

    with pytest.raises(exc.InternalError, match="SAVEPOINT can only be used"):
        units.connected(work, **AUTOCOMMIT)
    assert stored() == []


def test_a_cursor_that_outlives_its_transaction_keeps_the_role(units: Units) -> None:
    """DECLARE WITH HOLD, which the server takes outside a transaction too, runs with the settings."""

    def work(connection: Connection) -> str:
        connection.execute(text("DECLARE held CURSOR WITH HOLD FOR SELECT current_user::text"))
        return str(connection.scalar(text("FETCH held")))

    assert units.connected(work, **AUTOCOMMIT, **ROLE) == "pg_monitor"


@pytest.mark.parametrize(("end", "kept"), [("ROLLBACK", []), ("COMMIT", [1, 2])])
@pytest.mark.parametrize("begin", ["BEGIN", "/* a */ START TRANSACTION"])
def test_a_transaction_that_is_written_out_in_autocommit_is_one(
    units: Units, stored: Callable[[], list[int]], begin: str, end: str, kept: list[int]
) -> None:
    """BEGIN as text begins a transaction, with the connection's settings; ROLLBACK as text undoes it."""

    def work(connection: Connection) -> None:
        connection.execute(text(begin))
        for number in (1, 2):
            connection.execute(text(INSERT.format(number)))
        assert connection.scalar(text("SELECT current_user")) == "pg_monitor"
        connection.execute(text(end))

    units.connected(work, **AUTOCOMMIT, **ROLE)
    assert stored() == kept


def test_what_must_stand_alone_is_refused_in_a_transaction_that_is_written_out(units: Units) -> None:
    """VACUUM after BEGIN as text is the server's refusal, not an error of a second try."""

    def work(connection: Connection) -> None:
        connection.execute(text("BEGIN"))
        with pytest.raises(exc.DBAPIError) as caught:
            connection.execute(text("VACUUM notes"))
        assert getattr(caught.value.orig, "sqlstate", None) == "25001"

    units.connected(work, **AUTOCOMMIT)


# Pipelines of the user's


@contextmanager
def _pipeline(units: Units, driver: Any) -> Iterator[Any]:
    pipeline = driver.pipeline()
    if not units.is_async:
        with pipeline as opened:
            yield opened
        return
    opened = units.settle(pipeline.__aenter__())
    try:
        yield opened
    except BaseException as error:
        units.settle(pipeline.__aexit__(type(error), error, None))
        raise
    units.settle(pipeline.__aexit__(None, None, None))


@pytest.mark.parametrize("pause_seconds", [0.0, 0.2])
def test_within_a_pipeline_a_failed_transaction_is_not_committed_either(
    units: Units, stored: Callable[[], list[int]], pause_seconds: float
) -> None:
    """The refusal has the class it has elsewhere, also where the error comes before the Sync is sent."""

    def work(connection: Connection) -> object:
        driver = _driver(connection)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction), _pipeline(units, driver) as pipeline:
            with pytest.raises(psycopg.errors.DivisionByZero):
                units.settle(driver.execute(INSERT.format(1)))
                units.settle(driver.execute("SELECT 1 / 0"))
                time.sleep(pause_seconds)
                units.settle(pipeline.sync())
            units.settle(driver.commit())
        units.settle(driver.rollback())
        return connection.scalar(text("SELECT 5"))

    with deadline(20):
        assert units.connected(work) == 5
    assert stored() == []


def test_within_a_pipeline_a_batch_is_refused(units: Units) -> None:
    """A batch is a pipeline too: within another one its answers could not be told from the other's."""

    def work(session: Session) -> object:
        driver = _driver(session.connection())
        with _pipeline(units, driver):
            first = units.settle(driver.execute("SELECT 3"))
            with pytest.raises(exc.NotSupportedError, match="leave that one first"):
                batch(session, text("SELECT 1"), text("SELECT 2"))
        return units.settle(first.fetchone()), session.scalar(text("SELECT 5"))

    with deadline(20):
        assert units.session(work) == ((3,), 5)


# The preamble belongs to the connection


def test_cursors_of_other_classes_share_the_transaction(
    units: Units, stored: Callable[[], list[int]]
) -> None:
    """The driver's other cursors, and those of libraries, begin the transaction that a rollback undoes."""

    def work(connection: Connection) -> None:
        for number, kind in enumerate(_other_cursors(units)):
            connection.begin()
            units.settle(kind(_driver(connection)).execute(INSERT.format(number)))
            connection.rollback()
        connection.begin()
        units.settle(_other_cursors(units)[1](_driver(connection)).execute(INSERT.format(7)))
        connection.commit()

    units.connected(work)
    assert stored() == [7]


def test_cursors_of_other_classes_run_as_their_caller(units: Units) -> None:
    """The settings of the connection hold for whichever cursor asks first, streams and COPY included."""

    def work(connection: Connection) -> set[Any]:
        driver = _driver(connection)
        cursors = [kind(driver) for kind in _other_cursors(units)] + [driver.cursor("named"), driver.cursor()]
        found = set()
        for cursor in cursors:
            connection.begin()
            found |= set(_asked(units, cursor, "SELECT current_user"))
            units.settle(cursor.close())
            connection.rollback()
        return found

    assert units.connected(work, **ROLE) == {"pg_monitor"}


def test_a_reading_session_refuses_the_writes_of_other_cursors(
    units: Units, stored: Callable[[], list[int]]
) -> None:
    """Read-only is the connection, not our cursor."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        units.connected(
            lambda connection: units.settle(
                _other_cursors(units)[1](_driver(connection)).execute(INSERT.format(1))
            ),
            **READING,
        )
    assert stored() == []


def test_in_autocommit_nothing_runs_without_its_settings(units: Units) -> None:
    """A statement that cannot take the caller's role along is refused, not run as the login role."""

    def other(connection: Connection) -> Any:
        return _asked(units, _other_cursors(units)[1](_driver(connection)), "SELECT current_user")

    with pytest.raises(psycopg.NotSupportedError, match="settings and guard"):
        units.connected(other, **AUTOCOMMIT, **ROLE)
    with pytest.raises(exc.InternalError, match="VACUUM"):
        units.connected(lambda connection: connection.execute(text("VACUUM notes")), **AUTOCOMMIT, **ROLE)
    user = text("SELECT current_user")
    assert units.connected(lambda connection: connection.scalar(user), **AUTOCOMMIT, **ROLE) == "pg_monitor"


def test_dumpers_of_the_user_do_not_touch_the_preamble(units: Units) -> None:
    """Adapters that change texts change the user's, not the names and values of settings."""

    class Louder(psycopg.adapt.Dumper):
        def dump(self, obj: str) -> bytes:
            return f"{obj.upper()}!".encode()

    def work(connection: Connection) -> Any:
        driver = _driver(connection)
        driver.adapters.register_dumper(str, Louder)
        row = connection.exec_driver_sql(
            "SELECT current_setting('work_mem'), current_setting('a.b'), %s", ("x",)
        )
        found = tuple(row.one())
        connection.invalidate()
        return found

    guard = ("SELECT set_config(%s, %s, true)", ["a.b", "c"])
    options = {SETTINGS: {"work_mem": "1MB"}, GUARD: guard}
    assert units.connected(work, **options) == ("1MB", "c", "X!")


# The driver's own contract


def test_what_is_set_on_the_drivers_connection_holds(database: Database) -> None:
    """A listener that makes connections read-only, serializable and deferrable is obeyed."""

    @event.listens_for(database.engine, "connect")
    def _connected(driver: Any, _record: object) -> None:
        driver.read_only = driver.deferrable = True
        driver.isolation_level = psycopg.IsolationLevel.SERIALIZABLE

    names = ("isolation", "read_only", "deferrable")
    shown = ", ".join(f"current_setting('transaction_{name}')" for name in names)
    with database.engine.connect() as connection:
        assert tuple(connection.execute(text(f"SELECT {shown}")).one()) == ("serializable", "on", "on")


def test_a_raw_connection_is_a_transaction(database: Database, stored: Callable[[], list[int]]) -> None:
    """Work before `rollback` is not stored, and work before `commit` is, also before SQLAlchemy began."""
    for number, end in enumerate(("rollback", "commit")):
        raw = database.engine.raw_connection()
        raw.cursor().execute(INSERT.format(number))
        getattr(raw, end)()
        raw.close()
    with database.engine.connect() as connection:
        connection.connection.cursor().execute(INSERT.format(5))
        connection.rollback()
    assert stored() == [1]


def test_the_drivers_autocommit_is_obeyed(units: Units, stored: Callable[[], list[int]]) -> None:
    """`set_autocommit` on the driver's connection makes each statement a transaction of its own."""

    def work(connection: Connection) -> None:
        units.settle(_driver(connection).set_autocommit(True))
        connection.execute(text(INSERT.format(1)))
        connection.rollback()
        units.settle(_driver(connection).set_autocommit(False))
        connection.execute(text(INSERT.format(2)))
        connection.rollback()

    units.connected(work)
    assert stored() == [1]


@pytest.mark.parametrize("options", [{}, AUTOCOMMIT], ids=["transaction", "autocommit"])
@pytest.mark.parametrize("first", [True, False])
def test_several_statements_in_one_text(
    units: Units,
    stored: Callable[[], list[int]],
    options: dict[str, Any],
    first: bool,  # noqa: FBT001  (a case)
) -> None:
    """They work wherever they stand, with a literal that holds a semicolon too."""

    def work(connection: Connection) -> None:
        if not first:
            connection.execute(text("SELECT 1"))
        connection.exec_driver_sql(
            "INSERT INTO notes VALUES (1, ';'); INSERT INTO notes VALUES (2)", execution_options=LAST
        )
        connection.commit()

    units.connected(work, **options)
    assert stored() == [1, 2]


def test_the_transaction_may_be_described_by_its_first_statement(units: Units) -> None:
    """SET TRANSACTION comes before any query, and settings hold after it all the same."""

    def work(session: Session) -> Any:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY"))
        names = ("transaction_isolation", "transaction_read_only", "client_connection_check_interval")
        return [session.scalar(text(f"SHOW {name}")) for name in names]

    assert units.transaction(work) == ["serializable", "on", "1s"]


@pytest.mark.parametrize("first", [True, False])
def test_an_ended_session_keeps_its_sqlstate(units: Units, first: bool) -> None:  # noqa: FBT001  (a case)
    """The error says why the server ended the session, not only that it is gone."""

    def work(connection: Connection) -> None:
        if not first:
            connection.execute(text("SELECT 1"))
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    for _ in range(5):
        with pytest.raises(exc.DBAPIError) as caught:
            units.connected(work)
        assert (caught.value.orig.sqlstate, caught.value.connection_invalidated) == ("57P01", True)  # type: ignore[union-attr]


def test_an_error_that_comes_with_the_sync_is_the_statements(units: Units) -> None:
    """In AUTOCOMMIT a deferred constraint fails after its statement, with its own SQLSTATE."""
    for _ in range(5):
        with pytest.raises(exc.IntegrityError) as caught:
            units.connected(
                lambda connection: connection.execute(text("INSERT INTO notes VALUES (1, '', 9)")),
                **AUTOCOMMIT,
            )
        assert caught.value.orig.sqlstate == "23503"  # type: ignore[union-attr]


def test_a_procedure_that_commits_runs_in_autocommit(units: Units, stored: Callable[[], list[int]]) -> None:
    """It is sent alone once the server has refused it beside others, and was not done twice."""
    units.connected(lambda connection: connection.execute(text("CALL two_steps()")), **AUTOCOMMIT)
    assert stored() == [1, 2]


def test_rows_are_stored_together_or_not_at_all_in_autocommit(
    units: Units, stored: Callable[[], list[int]]
) -> None:
    """A row that cannot be sent takes those before it with it."""
    rows = [{"id": 1, "t": "a"}, {"id": 2, "t": "b\0"}]
    with pytest.raises(exc.DataError):
        units.connected(
            lambda connection: connection.execute(text("INSERT INTO notes VALUES (:id, :t)"), rows),
            **AUTOCOMMIT,
        )
    assert stored() == []


def test_an_error_of_python_while_an_answer_is_read_harms_nothing(units: Units) -> None:
    """A row factory that raises leaves the connection as it was."""

    def work(connection: Connection) -> Any:
        def broken(_cursor: object) -> Any:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            units.settle(_driver(connection).cursor(row_factory=broken).execute("SELECT 1"))
        assert _driver(connection).pgconn.transaction_status == TransactionStatus.INTRANS
        return connection.scalar(text("SELECT 2"))

    assert units.connected(work) == 2


@pytest.mark.parametrize("options", [{}, AUTOCOMMIT], ids=["transaction", "autocommit"])
def test_streams_stand_between_other_statements(units: Units, options: dict[str, Any]) -> None:
    """A statement after a stream of the driver gets its own rows, complete."""

    def streamed(connection: Connection) -> int:
        rows = _driver(connection).cursor().stream("SELECT generate_series(1, 3)")
        if not units.is_async:
            return len(list(rows))

        async def count() -> int:
            return len([row async for row in rows])

        return int(units.settle(count()))

    def work(connection: Connection) -> None:
        assert streamed(connection) == 3
        numbers = text("SELECT generate_series(1, 2)")
        assert len(connection.execute(numbers, execution_options=LAST).all()) == 2
        assert streamed(connection) == 3
        connection.rollback()
        assert connection.execute(numbers).all() == [(1,), (2,)]

    units.connected(work, **options)


@pytest.mark.parametrize("route", ["direct"])
def test_notifications_come_with_their_statement(units: Units) -> None:
    """A handler has each notification as soon as the statement that sent it is done."""
    found: list[str] = []

    def work(connection: Connection) -> None:
        _driver(connection).add_notify_handler(lambda notification: found.append(notification.payload))
        connection.execute(text("LISTEN wire"))
        for number in range(20):
            connection.execute(text(f"NOTIFY wire, '{number}'"))
            assert len(found) == number + 1
        connection.execute(text("UNLISTEN *"))

    units.connected(work, **AUTOCOMMIT)


def test_a_failed_transaction_cannot_be_committed(units: Units, stored: Callable[[], list[int]]) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then, and no error; here it is one."""

    def work(connection: Connection) -> None:
        connection.execute(text(INSERT.format(1)))
        with pytest.raises(exc.IntegrityError):
            connection.execute(text(INSERT.format(1)))
        connection.commit()

    with pytest.raises(exc.InternalError, match="begin_nested"):
        units.connected(work)
    assert stored() == []


def test_a_batch_takes_whole_results_only(units: Units) -> None:
    """Streams are refused with a sentence; statements without parameters are not."""

    def work(session: Session) -> list[Any]:
        with pytest.raises(exc.NotSupportedError, match="by itself"):
            batch(session, text("SELECT 1"), text("SELECT 2").execution_options(yield_per=5))
        plain = text("SELECT 3").execution_options(no_parameters=True)
        return [result.scalar() for result in batch(session, plain, text("SELECT 4"))]

    assert units.transaction(work) == [3, 4]


# Limits


def test_stricter_limits_of_a_database_stay(
    servers: Servers, database_name: str, units: Units, route: str
) -> None:
    """A deadline narrows the limits of roles and databases, and widens none."""
    limits = {"statement_timeout": "5s", "lock_timeout": "1s", "idle_in_transaction_session_timeout": "1min"}
    for name, value in limits.items():
        servers.administer(f"ALTER DATABASE {database_name} SET {name} = '{value}'")
    if route == "pooled":
        servers.pooler.command(f"RECONNECT {database_name}")

    def look(connection: Connection) -> list[Any]:
        return [connection.scalar(text(f"SHOW {name}")) for name in limits]

    assert units.connected(look) == list(limits.values())
    with deadline(20):
        statement, lock, idle = units.connected(look)
    assert (statement, lock) == ("5s", "1s")
    assert idle.endswith("ms") or int(idle.removesuffix("s")) <= 20


def test_a_script_without_a_deadline_is_not_ended_by_one(units: Units) -> None:
    """Outside of a deadline no limit of time is set."""
    names = (
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_timeout",
    )
    shown = text(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
    assert units.transaction(lambda session: tuple(session.execute(shown).one())) == ("0",) * 4


def test_later_statements_end_on_the_server_by_the_deadline(units: Units, servers: Servers) -> None:
    """The whole transaction has a limit where the server knows one: no lock outlives the client."""
    [(version,)] = servers.administer("SELECT current_setting('server_version_num')::int")
    if version < 170_000:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    with deadline(20):
        limit = units.transaction(lambda session: session.scalar(text("SHOW transaction_timeout")))
    assert limit.endswith("ms") or 0 < int(limit.removesuffix("s")) <= 20


# Peers that fall silent


def test_a_statement_that_is_too_late_is_not_sent(units: Units, proxy: Proxy) -> None:
    """Once the deadline is over nothing leaves: what is not sent need not be undone."""

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        connection.rollback()
        with deadline(0.01), proxy.counting() as flights:
            time.sleep(0.05)
            with pytest.raises(exc.DBAPIError, match="the deadline is over"):
                connection.execute(text(INSERT.format(1)))
            assert flights() == 0

    units.connected(work)


def test_a_transaction_that_was_ended_while_idle_is_known_not_to_be_stored(
    units: Units, route: str, stored: Callable[[], list[int]]
) -> None:
    """The server's last message came before the COMMIT was sent, so the outcome is no question."""

    def work(connection: Connection) -> None:
        connection.execute(text(INSERT.format(1)))
        time.sleep(0.5)
        with pytest.raises(exc.DBAPIError) as caught:
            connection.commit()
        if route == "direct":
            assert getattr(caught.value.orig, "sqlstate", None) == "25P03"

    units.connected(work, **{SETTINGS: {"idle_in_transaction_session_timeout": "100"}})
    assert stored() == []


@pytest.mark.slow
@pytest.mark.parametrize("started", [False, True], ids=["first statement", "later statement"])
def test_a_peer_that_fell_silent_is_given_up_before_the_deadline(
    units: Units,
    proxy: Proxy,
    started: bool,  # noqa: FBT001  (a case)
) -> None:
    """If no statement with an effect was sent, a bound on the first byte ends the wait."""

    def work(connection: Connection) -> None:
        if started:
            connection.execute(text("SELECT 1"))
        time.sleep(SUSPECT_AFTER_SECONDS * 1.5)
        proxy.forget()
        connection.execute(text("SELECT 2"))

    units.connected(lambda connection: connection.execute(text("SELECT 1")))
    begin = time.monotonic()
    with deadline(60), pytest.raises(exc.OperationalError, match="has not answered") as caught:
        units.connected(work)
    assert caught.value.connection_invalidated
    assert time.monotonic() - begin < PATIENCE_SECONDS * 10


@pytest.mark.slow
@pytest.mark.usefixtures("in_flight")
def test_a_commit_to_a_silent_peer_is_unknown(units: Units, proxy: Proxy) -> None:
    """A COMMIT that went with its statement may have been done."""

    def work(connection: Connection) -> None:
        time.sleep(SUSPECT_AFTER_SECONDS * 1.5)
        proxy.forget()
        connection.execute(text(INSERT.format(1)), execution_options=LAST)

    units.connected(lambda connection: connection.execute(text("SELECT 1")))
    with deadline(20), pytest.raises(exc.DBAPIError) as caught:
        units.connected(work)
    assert caught.value.orig.sqlstate == "08007"  # type: ignore[union-attr]


# Child processes


def test_a_child_process_does_not_speak_on_its_parents_connections(database: Database) -> None:
    """After a fork the child opens connections of its own, and the parent keeps its own."""
    with database.engine.connect() as connection:
        before = connection.connection.driver_connection
        assert connection.scalar(text("SELECT 1")) == 1
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with database.engine.connect() as connection:
                is_own = connection.connection.driver_connection is not before
                os.write(writes, f"{is_own} {connection.scalar(text('SELECT 42'))}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 10) == b"True 42"
    os.close(reads)
    os.close(writes)
    with database.engine.connect() as connection:
        assert connection.connection.driver_connection is before
        assert connection.scalar(text("SELECT 43")) == 43
