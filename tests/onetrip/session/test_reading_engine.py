"""Connections of the engine of reading sessions only read, however they are had, until they go back."""

from __future__ import annotations

import pytest
from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import text
from sqlalchemy.exc import InternalError

from lib.onetrip.connection.dialect import SETTINGS
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import transaction

WRITE = "UPDATE authors SET name = name"
PLACE = "SELECT current_setting('app.place', true)"


def test_a_raw_connection_of_it_only_reads(database: Database) -> None:
    """The driver's own cursor is refused a write, without a transaction of SQLAlchemy's around it."""
    raw = database.reading_options_engine.raw_connection()
    with pytest.raises(ReadOnlySqlTransaction):
        raw.cursor().execute(WRITE)
    raw.close()


def test_what_options_make_of_it_only_reads(database: Database) -> None:
    """An engine with settings of its own sends them, and is refused writes."""
    engine = database.reading_options_engine.execution_options(**{SETTINGS: {"app.place": "here"}})
    with engine.connect() as connection:
        assert connection.scalar(text(PLACE)) == "here"
        with pytest.raises(InternalError):
            connection.execute(text(WRITE))


def test_a_connection_that_went_back_writes_again(database: Database) -> None:
    """The next unit of work has the same connection, and its write is stored."""
    with database.reading_options_engine.connect() as connection:
        before = connection.connection.driver_connection
    with transaction(database) as session:
        assert session.connection().connection.driver_connection is before
        session.execute(text(WRITE))
