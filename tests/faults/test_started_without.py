"""The application starts while its database cannot be reached, and serves once it can."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.deployment import LATE_SECONDS

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Deployment
    from tests.onetrip.fault_proxy import Proxy

DEADLINE_SECONDS = 2


@pytest.mark.parametrize("door", ["uvicorn", "lambda"])
def test_it_starts_without_a_database_and_serves_once_there_is_one(
    deployment: Deployment, network: Proxy, rows: Rows, door: str
) -> None:
    """Refused or silent: it lives, says by its deadline that the database is not there, and recovers."""
    row = rows(f"start-{door}", 8, 8)
    (person,) = deployment.people()
    variables = {"REQUEST_TIMEOUT_SECONDS": str(DEADLINE_SECONDS)}
    for fault in (network.down, network.silence):
        with ExitStack() as lasts, ExitStack() as broken:
            broken.enter_context(fault())
            started = lasts.enter_context(deployment.through(door)(network.port, **variables))
            lives = started.ask("GET", "/health/live")
            row.count(lives.status == 200, lives)
            ready = started.ask("GET", "/health/ready")
            row.count(ready.status == 503 and "retry-after" in ready.headers, ready)
            read = started.ask("GET", "/api/v1/users/me", user=person)
            is_in_time = read.seconds < DEADLINE_SECONDS + LATE_SECONDS
            row.count(read.status in {503, 504} and is_in_time, read)
            broken.close()
            read = started.ask("GET", "/api/v1/users/me", user=person)
            row.count(read.status == 200, read)
    row.check()
