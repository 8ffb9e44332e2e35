"""Settings hold for their unit of work, and the next client of the server connection sees none of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, exc, text

from lib.onetrip.connection.dialect import LAST, SETTINGS
from lib.onetrip.deadlines import deadline
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip import pgbouncer
from tests.onetrip.network import until
from tests.onetrip.servers import Servers
from tests.onetrip.sync_or_async import READING, Units

LOOK = """
SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
       current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_read_only'),
       coalesce(current_setting('app.user', true), '')
"""
# The settings of a clean connection.
UNTOUCHED = ("0", "0", "0", "off", "")
ROUNDS = 1000


@pytest.fixture(scope="module")
def narrow(servers: Servers) -> Iterator[pgbouncer.PgBouncer]:
    """A pooler with one server connection for all clients; who waits for it too long gets an error."""
    with tempfile.TemporaryDirectory(prefix="fastapi-on-neon-narrow-") as folder:
        Path(folder).chmod(0o755)
        settings = {"default_pool_size": "1", "query_wait_timeout": "10"}
        pooler = pgbouncer.PgBouncer(Path(folder), free_port(), servers.pooler.server, settings)
        with pgbouncer.running(pooler):
            yield pooler


@pytest.fixture
def narrow_url(narrow: pgbouncer.PgBouncer, database_name: str) -> DatabaseURL:
    """The URL of the test's database through the narrow pooler."""
    return narrow.url(database_name)


@pytest.fixture
def ours(narrow_url: DatabaseURL, way: str) -> Iterator[Units]:
    """Units of work through the narrow pooler."""
    settings = load_settings(DATABASE_URL=narrow_url.render(), DATABASE_MODE="pooled")
    with Units.opened(Database(settings), way) as units:
        yield units


def _look(connection: Connection) -> Any:
    return tuple(connection.execute(text(LOOK)).one())


def _look_last(connection: Connection) -> Any:
    return tuple(connection.execute(text(LOOK), execution_options=LAST).one())


def _look_and_commit(connection: Connection) -> Any:
    seen = _look(connection)
    connection.commit()
    return seen


def _look_and_fail(connection: Connection) -> Any:
    seen = _look(connection)
    _fail(connection)
    return seen


def _fail(connection: Connection) -> Any:
    with pytest.raises(exc.DataError):
        connection.execute(text("SELECT 1 / 0"))


def _change_many(connection: Connection) -> None:
    connection.execute(text("UPDATE authors SET name = :name"), [{"name": "ada"}, {"name": "grace"}])


KINDS: dict[str, tuple[Callable[[Connection], Any], dict[str, Any]]] = {
    "read": (_look, READING),
    "transaction rolled back": (_look, {}),
    "transaction committed": (_look_and_commit, {}),
    "committed in the pipeline": (_look_last, {}),
    "failed read": (_fail, READING),
    "failed first statement": (_fail, {}),
    "failed later statement": (_look_and_fail, {}),
    "many": (_change_many, {}),
    "nothing": (lambda _: None, {}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def _run(units: Units, kind: str, user: str) -> Any:
    work, options = KINDS[kind]
    with deadline(30):
        return units.connected(work, **options, **{SETTINGS: {"app.user": user}})


def _assert_in_force(seen: Any, kind: str, user: str) -> None:
    if seen is not None:
        assert seen[3:] == ("on" if KINDS[kind][1] else "off", user)
        assert "0" not in seen[:3]


@pytest.mark.slow
def test_two_clients_of_one_server_connection_never_see_each_others_settings(
    ours: Units, narrow_url: DatabaseURL
) -> None:
    """In 2,000 statements, also failed ones, ours hold in each unit, and another client sees none."""
    with psycopg.connect(**narrow_url.connect_arguments(), autocommit=True, prepare_threshold=None) as other:  # type: ignore[arg-type]
        for number, kind in enumerate(islice(cycle(KINDS), ROUNDS)):
            _assert_in_force(_run(ours, kind, f"user {number}"), kind, f"user {number}")
            assert other.execute(LOOK).fetchone() == UNTOUCHED, kind


@each_kind
def test_the_next_unit_on_the_same_connection_starts_without_them(units: Units, kind: str) -> None:
    """Settings end with their unit on a connection of one's own as well."""
    _assert_in_force(_run(units, kind, "ada"), kind, "ada")

    def look_past_us(connection: Connection) -> Any:
        driver: Any = connection.connection.driver_connection
        cursor_class = psycopg.AsyncCursor if units.is_async else psycopg.Cursor
        return units.settle(units.settle(cursor_class(driver).execute(LOOK)).fetchone())

    assert units.connected(look_past_us) == UNTOUCHED


@each_kind
def test_a_finished_unit_holds_no_server_connection(
    ours: Units, narrow: pgbouncer.PgBouncer, database_name: str, kind: str
) -> None:
    """Soon after its end the pooler may give the server connection to another client."""

    def is_free() -> bool:
        return [pool["sv_active"] for pool in narrow.show("POOLS") if pool["database"] == database_name] == [
            0
        ]

    for _ in range(100):
        _run(ours, kind, "ada")
        # A ROLLBACK that only ends reading is not waited for.
        until(is_free)
