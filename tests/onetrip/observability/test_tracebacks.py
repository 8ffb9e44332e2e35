"""A traceback says what failed and where, and nothing of the rows that a server repeats."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from lib.onetrip.observability.json_log import JSONLine
from lib.onetrip.observability.redaction import Redaction
from lib.onetrip.session.session import transaction

if TYPE_CHECKING:
    from lib.onetrip.pool.database import Database

ROW = "what somebody\n\nwrote"


@pytest.mark.parametrize("route", ["direct"])
def test_a_traceback_repeats_no_row(database: Database) -> None:
    """PostgreSQL's detail of a refused row stays out of the log, with all its lines."""
    add = text("INSERT INTO authors (name, email) VALUES (:name, :email)")
    with pytest.raises(IntegrityError) as failure, transaction(database) as session:
        for name in ("ada", "bob"):
            session.execute(add, {"name": name, "email": ROW})
    told = (failure.type, failure.value, failure.tb)
    record = logging.LogRecord("lib", logging.ERROR, "", 0, "failed", None, told)
    line = JSONLine(Redaction(database.settings)).format(record)
    assert "duplicate key value violates unique constraint" in line
    assert "DETAIL:  ***" in line
    assert "somebody" not in line
    assert "wrote" not in line
