"""Exhaustion: more instances than the server has connections; answers, times, server connections."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import psycopg

from benchmarks.designs import NULL_POOL, OURS, PEERS, SYNC_PING, Design
from benchmarks.instance import PLATFORMS
from benchmarks.options import Plan
from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip import pgbouncer
from tests.onetrip.environment import clean_environment

SIZES = [50, 200, 500, 1000]
# Requests of each instance, and the seconds between them.
REQUESTS, EVERY_SECONDS = 4, 2.0
MAX_CONNECTIONS = 104
# Neon's share: nine in ten of the server's connections.
POOLER = {"default_pool_size": "90", "max_client_conn": "10000"}
TUNED_IN_DIRECT = "tuned_asyncpg"
DESIGNS = [
    OURS,
    *(design for design in PEERS if design.module != TUNED_IN_DIRECT),
    NULL_POOL,
    replace(NULL_POOL, name="no pool, direct", endpoint="direct"),
]


def measure(plan: Plan) -> Iterator[dict[str, Any]]:
    """Measure answers, times and server connections by number of instances and design."""
    found: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "pooler_connections": int(POOLER["default_pool_size"]),
        "every_seconds": EVERY_SECONDS,
        "endpoints": {design.name: design.endpoint for design in DESIGNS},
        "instances": {},
    }
    sizes, designs = plan.choose((SIZES, DESIGNS), ([200], [OURS, SYNC_PING]))
    runs = [(size, design) for size in sizes for design in designs]
    for endpoint in (plan.endpoints.pooler, plan.endpoints.direct):
        # Idle connections of other benchmarks would delay the end for ten minutes.
        endpoint.command("RECONNECT postgres")
    with _wide_pooler(plan) as pooler:
        for number, (size, design) in enumerate(runs):
            plan.progress(f"{size} instances, {design.name}", number / len(runs))
            report = _run(plan, pooler, design, size)
            found["instances"].setdefault(str(size), {})[design.name] = report
            yield found


def _run(plan: Plan, pooler: pgbouncer.PgBouncer, design: Design, size: int) -> dict[str, Any]:
    direct = DatabaseURL(user="postgres", host="127.0.0.1", port=plan.endpoints.postgres.port)
    address = replace(pooler.url() if design.endpoint == "pooled" else direct, database="postgres")
    fleet = [sys.executable, "-m", "benchmarks.fleet", design.module, address.render()]
    environment = clean_environment(
        JWT_SECRET_KEY="k7Qw2mZp9Xv4Tn8Rb1Yc6Hs3Jd5Lf0Ga", REQUEST_TIMEOUT_SECONDS="10", **PLATFORMS["asgi"]
    )
    orders = [str(size), str(plan.choose(REQUESTS, 2)), str(EVERY_SECONDS)]
    with _Watch(direct, pooler) as watch:
        done = subprocess.run(
            [*fleet, *orders], env=environment, capture_output=True, text=True, check=False, timeout=180
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    seen = {"connections": watch.most, "transactions": watch.transactions, "hold_ms": watch.hold_ms}
    return {**report, **(seen if design.endpoint == "pooled" else {"connections": watch.most})}


@contextmanager
def _wide_pooler(plan: Plan) -> Iterator[pgbouncer.PgBouncer]:
    with tempfile.TemporaryDirectory(prefix="fastapi-on-neon-wide-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = DatabaseURL(host="127.0.0.1", port=plan.endpoints.postgres.port)
        with pgbouncer.running(pgbouncer.PgBouncer(folder, free_port(), server, POOLER)) as pooler:
            yield pooler


class _Watch:
    """Record the server's and the pooler's view during the block; the pooler's own connections end first."""

    def __init__(self, direct: DatabaseURL, pooler: pgbouncer.PgBouncer) -> None:
        self.most = 0
        self.transactions = 0
        self.hold_ms = 0.0
        self._pooler = pooler
        self._done = Event()
        self._connection = psycopg.connect(direct.render(), autocommit=True)
        self._thread = Thread(target=self._look)

    def __enter__(self) -> Self:
        self._pooler.command("RECONNECT postgres")
        while self._count():
            # Connections of the previous run end by themselves.
            time.sleep(0.05)
        self._before = self._totals()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._connection.close()
        count, milliseconds = (now - then for now, then in zip(self._totals(), self._before, strict=True))
        self.transactions = int(count)
        self.hold_ms = round(milliseconds / count, 3) if count else 0.0

    def _look(self) -> None:
        while not self._done.wait(0.1):
            self.most = max(self.most, self._count())

    def _count(self) -> int:
        row = self._connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() AND application_name <> 'pgbouncer'"
        ).fetchone()
        assert row is not None
        count: int = row[0]
        return count

    def _totals(self) -> tuple[float, float]:
        rows = [row for row in self._pooler.show("STATS") if row["database"] == "postgres"]
        return (
            sum(float(str(row["total_xact_count"])) for row in rows),
            sum(float(str(row["total_xact_time"])) for row in rows) / 1000,
        )
