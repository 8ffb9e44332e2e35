"""Fifty processes stay within the connections that they were given."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import readable
from tests.faults.promises import times

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Application, Deployment
    from tests.onetrip import pgbouncer
    from tests.onetrip.conftest import Certificates
    from tests.onetrip.fault_proxy import Proxy

AT_ONCE = 3
POOL = 2
POOLER_SIZE = 20
SLOW = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION wait();
"""


@pytest.mark.parametrize("route", ["pooled", "direct"])
def test_processes_stay_within_their_budget(
    deployment: Deployment,
    network: Proxy,
    certificates: Certificates,
    tls_pooler: pgbouncer.PgBouncer,
    rows: Rows,
    route: str,
) -> None:
    """Each asked three things at once uses two connections, no more and no fewer; all are answered."""
    processes = times(50, 6)
    row = rows(f"budget-{route}", 50 * AT_ONCE, 6 * AT_ONCE)
    deployment.sql(SLOW)
    (person,) = deployment.people()
    with ExitStack() as stack:
        direct = stack.enter_context(readable(deployment, certificates, "direct"))
        port = network.port if route == "pooled" else direct.port
        started = [stack.enter_context(deployment.serving(port, mode=route)) for _ in range(processes)]

        def ask(application: Application) -> str:
            answer = application.ask("POST", "/api/v1/posts", {"title": "t", "content": "x"}, user=person)
            return "" if answer.status == 201 else str(answer)

        with _watched(deployment) as most, ThreadPoolExecutor(row.of) as clients:
            for said in clients.map(ask, started * AT_ONCE):
                row.count(not said, said)
        clients_now = [one for one in tls_pooler.show("CLIENTS") if one["database"] == deployment.database]
        row.note = f"{max(most)} server connections at most"
        if route == "pooled":
            assert len(clients_now) == processes * POOL
            assert max(most) == min(POOLER_SIZE, processes * POOL)
        else:
            assert max(most) == deployment.connections() == processes * POOL
    row.check()


@contextmanager
def _watched(deployment: Deployment) -> Iterator[list[int]]:
    """Samples the number of connections on the server."""
    seen, over = [0], Event()

    def watch() -> None:
        with deployment.connect() as connection:
            count = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name <> 'observer'"
            )
            while not over.wait(0.02):
                found = connection.execute(count).fetchone()
                assert found is not None
                seen.append(found[0])

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
