"""Idle backends are ended before each request: no request notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import readable
from tests.onetrip.fault_proxy import Proxy
from tests.onetrip.network import until

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Deployment
    from tests.onetrip import pgbouncer
    from tests.onetrip.conftest import Certificates


@pytest.mark.parametrize(
    ("name", "route", "door", "short"),
    [
        ("idle-direct", "direct", "uvicorn", 40),
        ("idle-pooled", "pooled", "uvicorn", 40),
        ("idle-lambda", "direct", "lambda", 20),
    ],
    ids=["direct", "pooled", "lambda"],
)
def test_a_backend_that_ended_while_idle_is_not_noticed(
    deployment: Deployment,
    network: Proxy,
    tls_pooler: pgbouncer.PgBouncer,
    certificates: Certificates,
    rows: Rows,
    name: str,
    route: str,
    door: str,
    short: int,
) -> None:
    """Reads and writes in turn: each is answered as if its connection had never ended, at its first try.

    Trying again would hide that a dead connection was handed out: the application's log tells.
    """
    row = rows(name, 500, short)
    (person,) = deployment.people()
    with readable(deployment, certificates, route) as direct:
        port = network.port if route == "pooled" else direct.port
        with deployment.through(door)(port, mode=route) as application:
            answers = []
            for number in range(row.of):
                deployment.end_backends()
                # Gone is the server's process; that its end has arrived is another matter.
                until(lambda: _has_arrived(route, deployment, direct, tls_pooler))
                if number % 2:
                    answers.append(application.ask("GET", "/api/v1/users/me", user=person))
                else:
                    post = {"title": f"{number}", "content": "x"}
                    answers.append(application.ask("POST", "/api/v1/posts", post, user=person))
            # The client may have its answer before the line is written.
            until(lambda: len(application.requests()) == row.of)
            tries = [line["tries"] for line in application.requests()]
    for answer, tried in zip(answers, tries, strict=True):
        row.count(answer.is_success and tried == 1, f"{tried} tries: {answer}")
    assert deployment.sql("SELECT count(*) FROM posts") == [((row.of + 1) // 2,)]
    row.check()


def _has_arrived(route: str, deployment: Deployment, direct: Proxy, pooler: pgbouncer.PgBouncer) -> bool:
    """Return True if the clients of the backends can see by now that they ended."""
    if route == "direct":
        return direct.open_connections == 0
    return all(server["database"] != deployment.database for server in pooler.show("SERVERS"))
