"""Five hundred instances on a server of 104 connections, as Neon's smallest compute has."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from lib.onetrip.settings.settings import environment_with
from lib.onetrip.testing.databases import free_port
from tests.onetrip import pgbouncer
from tests.onetrip.environment import PROJECT

if TYPE_CHECKING:
    from lib.onetrip.url.database_url import DatabaseURL
    from tests.onetrip.servers import Servers

INSTANCES = 500
# Each instance asks once a second.
REQUESTS = 6
# As Neon's: nine in ten of the server's connections.
POOLER = {"default_pool_size": "90", "max_client_conn": "10000"}


@pytest.fixture
def wide_pooler(servers: Servers) -> Iterator[pgbouncer.PgBouncer]:
    """A pooler as wide as Neon's."""
    with tempfile.TemporaryDirectory(prefix="fastapi-on-neon-wide-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with pgbouncer.running(
            pgbouncer.PgBouncer(folder, free_port(), servers.pooler.server, POOLER)
        ) as pooler:
            yield pooler


@pytest.mark.slow
def test_five_hundred_instances_fit_104_connections(
    servers: Servers, wide_pooler: pgbouncer.PgBouncer, database_name: str
) -> None:
    """With the pooled URL and a tiny pool none fails; set up the usual way on the direct URL, most do."""
    ours = _fleet(servers, "ours", wide_pooler.url(database_name))
    stock = _fleet(servers, "stock", servers.url("direct", database_name))
    print(_table({"pooled, tiny pool": ours, "direct, 5 + 10": stock}))
    assert (ours["requests"], ours["failures"]) == (INSTANCES * REQUESTS, 0), ours["errors"]
    assert stock["failures"] > 0


def _fleet(servers: Servers, design: str, url: DatabaseURL) -> dict[str, Any]:
    """The report of a fleet of `design` at `url`, with the most connections that the server saw."""
    fleet = [
        sys.executable,
        "-m",
        "tests.onetrip.pool.fleet",
        design,
        url.render(),
        str(INSTANCES),
        str(REQUESTS),
    ]
    with _watched(servers, url) as most_connections:
        done = subprocess.run(
            fleet, env=environment_with(), cwd=PROJECT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "connections": most_connections()}


@contextmanager
def _watched(servers: Servers, url: DatabaseURL) -> Iterator[Callable[[], int]]:
    """The most connections at once to the database of `url`, as the server counts them."""
    seen, done = [0], Event()
    arguments = servers.url("direct").connect_arguments()
    with psycopg.connect(**arguments, autocommit=True) as connection:  # type: ignore[arg-type]

        def watch() -> None:
            while not done.wait(0.1):
                count = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
                row = connection.execute(count, [url.database]).fetchone()
                assert row is not None
                seen.append(row[0])

        watcher = Thread(target=watch)
        watcher.start()
        try:
            yield lambda: max(seen)
        finally:
            done.set()
            watcher.join()


def _table(reports: dict[str, dict[str, Any]]) -> str:
    """The reports beside each other."""
    head = f"{INSTANCES} instances   requests  failed    p50 ms    p95 ms  connections on the server"
    rows = [
        f"{design:<16}{report['requests']:>7}{report['failures'] / report['requests']:>8.1%}"
        f"{report['p50_ms']:>10}{report['p95_ms']:>10}{report['connections']:>6}  {report['errors'] or ''}"
        for design, report in reports.items()
    ]
    return "\n".join(["", head, *rows])
