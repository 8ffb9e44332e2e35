"""Random sequences of what can be done with a connection of SQLAlchemy's and the driver's below it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text
from sqlalchemy.util import await_only

SCHEMA = """
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE notes (id int PRIMARY KEY, parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
CREATE PROCEDURE two_steps(n int) LANGUAGE plpgsql AS
    'BEGIN INSERT INTO notes VALUES (n); COMMIT; INSERT INTO notes VALUES (n + 1); COMMIT; END'
"""
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"isolation_level": "AUTOCOMMIT"},
    {"isolation_level": "SERIALIZABLE"},
    {"isolation_level": "REPEATABLE READ"},
    {"postgresql_readonly": True},
    {"isolation_level": "SERIALIZABLE", "postgresql_readonly": True, "postgresql_deferrable": True},
)
INSERT = "INSERT INTO notes VALUES (:id)"


class Sequence:
    """One sequence, the same for each connection that it runs on; `log` keeps what each step came to."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.connection = connection
        self.random = random.Random(seed)
        self.log: list[tuple[str, ...]] = []
        self._number = 0

    def run(self) -> list[tuple[str, ...]]:
        """Do some random operations and end with a commit or a rollback."""
        for _ in range(self.random.randint(2, 9)):
            self._do(self.random.choice(OPERATIONS))
        self._do(self.random.choice((_commit, _rollback)))
        # SQLAlchemy does not roll back what the driver began after a COMMIT that failed.
        with suppress(Exception):
            self.connection.rollback()
            self.settle(self.driver.rollback())
        return self.log

    def _do(self, operation: Callable[[Sequence], Any]) -> None:
        name = operation.__name__
        try:
            self.log.append((name, repr(operation(self))))
        except Exception as error:  # noqa: BLE001  (both sides are compared by it)
            cause = getattr(error, "orig", None) or error
            self.log.append((name, type(cause).__name__, str(getattr(cause, "sqlstate", None))))

    @property
    def number(self) -> int:
        """A number that no step had yet."""
        self._number += 10
        return self._number

    @property
    def driver(self) -> Any:
        """The driver's own connection."""
        return self.connection.connection.driver_connection

    def settle(self, result: Any) -> Any:
        """The result of a driver's method, awaited where it is the async driver's."""
        return await_only(result) if self.connection.dialect.is_async else result

    def execute(self, statement: str, **parameters: Any) -> Any:
        """Execute by SQLAlchemy, and return the rows if there are any."""
        result = self.connection.execute(text(statement), parameters)
        return result.fetchall() if result.returns_rows else result.rowcount

    @contextmanager
    def entered(self, manager: Any) -> Iterator[Any]:
        """The driver's context manager, whichever kind it is of."""
        if not self.connection.dialect.is_async:
            with manager as value:
                yield value
            return
        value = await_only(manager.__aenter__())
        try:
            yield value
        except BaseException as error:
            if not await_only(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            await_only(manager.__aexit__(None, None, None))

    def some(self, rows: Any, most: int) -> list[Any]:
        """Some of what the driver's iterator gives, which is closed then."""
        found = []
        if not self.connection.dialect.is_async:
            for row in rows:
                found.append(row)
                if len(found) == most:
                    break
            getattr(rows, "close", lambda: None)()
            return found
        with suppress(StopAsyncIteration):
            while len(found) < most:
                found.append(await_only(anext(rows)))
        await_only(rows.aclose())
        return found


def _insert(s: Sequence) -> Any:
    return s.execute(INSERT, id=s.number)


def _insert_twice(s: Sequence) -> Any:
    number = s.number
    return s.execute(INSERT, id=number), s.execute(INSERT, id=number)


def _select(s: Sequence) -> Any:
    return s.execute("SELECT id FROM notes ORDER BY id")


def _options(s: Sequence) -> Any:
    names = ("isolation", "read_only", "deferrable")
    shown = ", ".join(f"current_setting('transaction_{name}')" for name in names)
    return s.execute(f"SELECT {shown}")


def _mistake(s: Sequence) -> Any:
    return s.execute("SELEKT 1")


def _late_error(s: Sequence) -> Any:
    return s.execute("INSERT INTO notes VALUES (:id, 999)", id=s.number)


def _unsendable(s: Sequence) -> Any:
    try:
        return s.execute("SELECT :x", x="a\0b")
    finally:
        # The stock driver has begun a transaction by then; ours has sent nothing yet.
        s.settle(s.driver.execute("SELECT 1"))


def _many(s: Sequence) -> Any:
    return s.connection.execute(text(INSERT), [{"id": s.number} for _ in range(3)]).rowcount


def _many_with_an_error(s: Sequence) -> Any:
    number = s.number
    return s.connection.execute(text(INSERT), [{"id": n} for n in (number, number + 1, number)]).rowcount


def _several(s: Sequence) -> Any:
    s.connection.exec_driver_sql(
        f"INSERT INTO notes VALUES ({s.number}); INSERT INTO notes VALUES ({s.number})"
    )


def _set_transaction(s: Sequence) -> Any:
    return s.execute("SET TRANSACTION READ ONLY")


def _vacuum(s: Sequence) -> Any:
    return s.execute("VACUUM parents")


def _call(s: Sequence) -> Any:
    return s.execute(f"CALL two_steps({s.number})")


def _typed_transaction(s: Sequence) -> Any:
    begin, end = s.random.choice(
        (("BEGIN", "ROLLBACK"), ("/* a */ START TRANSACTION", "abort"), ("BEGIN", "END"))
    )
    s.execute(begin)
    try:
        stored = s.execute(INSERT, id=s.number)
    except Exception:
        # Its COMMIT, which the server takes for a ROLLBACK without a word, is refused here on purpose.
        s.execute("ROLLBACK")
        raise
    s.execute(end)
    return stored


def _lock(s: Sequence) -> Any:
    return s.execute("LOCK TABLE parents")


def _declare(s: Sequence) -> Any:
    return s.execute("-- a\n DECLARE declared CURSOR FOR SELECT 1")


def _streamed(s: Sequence) -> Any:
    result = s.connection.execute(
        text("SELECT id FROM notes ORDER BY id"), execution_options={"yield_per": 2}
    )
    return result.fetchall()


def _streamed_in_part(s: Sequence) -> Any:
    numbers = text("SELECT generate_series(1, 50)")
    result = s.connection.execute(numbers, execution_options={"stream_results": True})
    first = result.fetchone()
    result.close()
    return first


def _savepoint(s: Sequence) -> Any:
    with s.connection.begin_nested():
        return s.execute(INSERT, id=s.number)


def _savepoint_undone(s: Sequence) -> Any:
    savepoint = s.connection.begin_nested()
    try:
        return s.execute(INSERT, id=s.number)
    finally:
        savepoint.rollback()


def _commit(s: Sequence) -> Any:
    # Ours refuses to commit a failed transaction, which is intended.
    failed = s.driver.pgconn.transaction_status == TransactionStatus.INERROR
    return s.connection.rollback() if failed else s.connection.commit()


def _rollback(s: Sequence) -> Any:
    return s.connection.rollback()


def _leave(s: Sequence) -> Any:
    # As a session that is closed does: the ROLLBACK of what only read is not waited for.
    if transaction := s.connection.get_transaction():
        transaction.close()


def _read_and_leave(s: Sequence) -> Any:
    found = _select(s)
    _leave(s)
    return found


def _stream_and_leave(s: Sequence) -> Any:
    found = _streamed_in_part(s)
    _leave(s)
    return found


def _driver_status(s: Sequence) -> Any:
    # Read first, since the stock driver has begun a transaction where ours has sent nothing yet.
    s.settle(s.driver.execute("SELECT 1"))
    return s.driver.info.transaction_status, s.driver.info.pipeline_status, s.driver.closed


def _driver_options(s: Sequence) -> Any:
    driver = s.driver
    if driver.autocommit:
        # Ours reads only in autocommit as well.
        return None
    before = driver.read_only
    s.settle(driver.set_read_only(True))
    try:
        return _options(s)
    finally:
        s.connection.rollback()
        s.settle(driver.rollback())
        s.settle(driver.set_read_only(before))


def _driver_many_returning(s: Sequence) -> Any:
    cursor = s.driver.cursor()
    rows = [(s.number,) for _ in range(3)]
    s.settle(cursor.executemany("INSERT INTO notes VALUES (%s) RETURNING id", rows, returning=True))
    found = []
    while True:
        found.append((cursor.rowcount, s.settle(cursor.fetchall())))
        if not cursor.nextset():
            return found


def _driver_several(s: Sequence) -> Any:
    cursor = s.settle(s.driver.execute(f"INSERT INTO notes VALUES ({s.number}); SELECT 7; SELECT 8"))
    found = [cursor.rowcount]
    while cursor.nextset():
        found.append(s.settle(cursor.fetchall()))
    return found


def _driver_rows_that_fail(s: Sequence) -> Any:
    def rows_of(_: Any) -> Any:
        raise ZeroDivisionError

    cursor = s.driver.cursor(row_factory=rows_of)
    s.settle(cursor.execute(f"INSERT INTO notes VALUES ({s.number}) RETURNING id"))
    return s.settle(cursor.fetchall())


def _driver_pipeline_with_an_error(s: Sequence) -> Any:
    # Drawn ahead: when an error is noticed is a matter of time.
    first, second, synced = s.number, s.number, s.random.random() < 0.5
    with s.entered(s.driver.pipeline()) as pipeline:
        s.settle(s.driver.execute(f"INSERT INTO notes VALUES ({first})"))
        if synced:
            s.settle(pipeline.sync())
        s.settle(s.driver.execute("SELECT 1 / 0"))
        s.settle(s.driver.execute(f"INSERT INTO notes VALUES ({second})"))


def _driver_pipeline_of_many(s: Sequence) -> Any:
    cursor = s.driver.cursor()
    with s.entered(s.driver.pipeline()):
        s.settle(cursor.executemany("INSERT INTO notes VALUES (%s)", [(s.number,) for _ in range(3)]))
    return cursor.rowcount


def _copy_broken_off(s: Sequence) -> Any:
    with s.entered(s.driver.cursor().copy("COPY notes (id) FROM STDIN")) as copy:
        s.settle(copy.write_row((s.number,)))
        raise ZeroDivisionError


def _copy_refused(s: Sequence) -> Any:
    with s.entered(s.driver.cursor().copy("COPY notes (id) FROM STDIN")) as copy:
        s.settle(copy.write_row(("no number",)))


def _copy_out_broken_off(s: Sequence) -> Any:
    with s.entered(s.driver.cursor().copy("COPY (SELECT generate_series(1, 9)) TO STDOUT")) as copy:
        s.settle(copy.read())
        raise ZeroDivisionError


def _driver_stream_in_part(s: Sequence) -> Any:
    found = s.some(s.driver.cursor().stream("SELECT generate_series(1, 9)"), 2)
    s.settle(s.driver.execute("SELECT 1"))
    return found


def _timed_out(s: Sequence) -> Any:
    s.execute("SET LOCAL statement_timeout = 20")
    return s.execute("SELECT pg_sleep(0.2)")


def _notified(s: Sequence) -> Any:
    heard: list[str] = []
    driver = s.driver

    def hear(notification: Any) -> None:
        heard.append(notification.payload)

    driver.add_notify_handler(hear)
    try:
        s.execute("LISTEN sequences")
        s.execute("NOTIFY sequences, 'a'")
        s.connection.commit()
        s.execute("UNLISTEN sequences")
        return heard
    finally:
        driver.remove_notify_handler(hear)


def _driver_execute(s: Sequence) -> Any:
    return s.settle(s.driver.execute(f"INSERT INTO notes VALUES ({s.number}) RETURNING id")) and None


def _other_cursor(s: Sequence) -> Any:
    kinds: tuple[Any, ...] = (psycopg.Cursor, psycopg.ClientCursor)
    if s.connection.dialect.is_async:
        kinds = (psycopg.AsyncCursor, psycopg.AsyncClientCursor)
    cursor = s.random.choice(kinds)(s.driver)
    s.settle(cursor.execute("INSERT INTO notes VALUES (%s) RETURNING id", [s.number]))
    return s.settle(cursor.fetchall())


def _driver_many(s: Sequence) -> Any:
    cursor = s.driver.cursor()
    s.settle(cursor.executemany("INSERT INTO notes VALUES (%s)", [(s.number,) for _ in range(3)]))
    return cursor.rowcount


def _driver_commit(s: Sequence) -> Any:
    if s.driver.pgconn.transaction_status != TransactionStatus.INERROR:
        s.settle(s.driver.commit())


def _driver_rollback(s: Sequence) -> Any:
    s.settle(s.driver.rollback())


def _driver_transaction(s: Sequence) -> Any:
    with s.entered(s.driver.transaction(force_rollback=s.random.random() < 0.3)):
        return s.settle(s.driver.execute(f"INSERT INTO notes VALUES ({s.number})")) and None


def _driver_pipeline(s: Sequence) -> Any:
    with s.entered(s.driver.pipeline()):
        first = s.settle(s.driver.execute(f"INSERT INTO notes VALUES ({s.number}) RETURNING id"))
        second = s.settle(s.driver.execute("SELECT 5"))
    return s.settle(first.fetchall()), s.settle(second.fetchall())


def _copy_in(s: Sequence) -> Any:
    numbers = [s.number for _ in range(3)]
    with s.entered(s.driver.cursor().copy("COPY notes (id) FROM STDIN")) as copy:
        for number in numbers:
            s.settle(copy.write_row((number,)))


def _copy_out(s: Sequence) -> Any:
    with s.entered(s.driver.cursor().copy("COPY (SELECT id FROM notes ORDER BY id) TO STDOUT")) as copy:
        parts = []
        while part := s.settle(copy.read()):
            parts.append(bytes(part))
        return parts


def _driver_stream(s: Sequence) -> Any:
    found = s.some(s.driver.cursor().stream("SELECT id FROM notes ORDER BY id"), 10_000)
    # Without it a pipeline of psycopg's gives the rows of its first statement one by one.
    s.settle(s.driver.execute("SELECT 1"))
    return found


def _driver_server_cursor(s: Sequence) -> Any:
    cursor = s.driver.cursor(f"c{s.number}")
    try:
        s.settle(cursor.execute("SELECT generate_series(1, 50)"))
        return s.settle(cursor.fetchmany(3))
    finally:
        s.settle(cursor.close())


def _two_phase(s: Sequence) -> Any:
    if s.connection.in_transaction():
        return "within another"
    transaction = s.connection.begin_twophase()
    try:
        s.execute(INSERT, id=s.number)
        transaction.prepare()
        transaction.commit()
    finally:
        if transaction.is_active:
            transaction.rollback()


OPERATIONS: tuple[Callable[[Sequence], Any], ...] = (
    *(_insert, _insert, _insert_twice, _select, _options, _mistake, _late_error, _unsendable, _many),
    *(_many_with_an_error, _several, _set_transaction, _vacuum, _call, _streamed, _streamed_in_part),
    *(_savepoint, _savepoint_undone, _commit, _commit, _rollback, _leave, _read_and_leave, _read_and_leave),
    *(
        _stream_and_leave,
        _timed_out,
        _typed_transaction,
        _lock,
        _declare,
        _notified,
        _two_phase,
        _other_cursor,
        _driver_execute,
        _driver_many,
    ),
    *(_driver_many_returning, _driver_several, _driver_commit, _driver_rollback, _driver_transaction),
    *(_driver_options, _driver_status, _driver_rows_that_fail, _driver_pipeline, _driver_pipeline_of_many),
    *(_driver_pipeline_with_an_error, _driver_stream, _driver_stream_in_part, _driver_server_cursor),
    *(_copy_in, _copy_broken_off, _copy_refused, _copy_out, _copy_out_broken_off),
)
