"""Reading sessions go to the replica, and to the primary while the replica is down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, reading, transaction
from lib.onetrip.settings.settings import Settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip.servers import Servers

WHERE = text("SELECT current_database()")
MakeSettings = Callable[..., Settings]


@pytest.fixture
def replica_name(servers: Servers, template: str) -> Iterator[str]:
    """A second database, which stands for the replica: sessions can tell where they are."""
    with servers.copy(template) as name:
        yield name


def test_reads_go_to_the_replica_and_writes_to_the_primary(
    servers: Servers, make_settings: MakeSettings, database_name: str, replica_name: str
) -> None:
    """A reading session is on the replica; a transaction, even one that only reads, is not."""
    database = Database(make_settings(DATABASE_REPLICA_URL=servers.url("direct", replica_name).render()))
    with reading(database) as session, transaction(database) as writing:
        assert session.scalar(WHERE) == replica_name
        assert writing.scalar(WHERE) == database_name
    database.close()


@pytest.mark.anyio
async def test_async_reads_go_to_the_replica(
    servers: Servers, make_settings: MakeSettings, replica_name: str
) -> None:
    """Async reading sessions are on the replica too."""
    database = Database(make_settings(DATABASE_REPLICA_URL=servers.url("direct", replica_name).render()))
    async with async_reading(database) as session:
        assert await session.scalar(WHERE) == replica_name
    await database.aclose()


def test_a_replica_that_is_down_costs_no_read(
    servers: Servers, make_settings: MakeSettings, database_name: str
) -> None:
    """While nothing listens at the replica's address, the primary is read, without an error."""
    nowhere = replace(servers.url("direct", database_name), port=free_port()).render()
    database = Database(make_settings(DATABASE_REPLICA_URL=nowhere))
    for _ in range(3):
        with reading(database) as session:
            assert session.scalar(WHERE) == database_name
    database.close()


def test_without_a_replica_reads_and_writes_share_one_pool(database: Database) -> None:
    """No second engine is made, so an instance keeps to its number of connections."""
    assert database.reading_engine is database.engine
    assert database.async_reading_engine is database.async_engine
