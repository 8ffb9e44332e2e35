"""Idle backends are ended before each request: no request notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fault_proxy import Proxy
from tests.faults.conftest import readable
from tests.faults.deployment import package_kind

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Deployment
    from tests.reliability.conftest import Certificates


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
    certificates: Certificates,
    rows: Rows,
    name: str,
    route: str,
    door: str,
    short: int,
) -> None:
    """Reads and writes in turn: each is answered as if its connection had never ended, and done once."""
    row = rows(name, 500, short)
    row.note = package_kind() if door == "lambda" else ""
    (person,) = deployment.people()
    with readable(deployment, certificates, route) as direct:
        port = network.port if route == "pooled" else direct.port
        with deployment.through(door)(port, mode=route) as application:
            for number in range(row.of):
                deployment.end_backends()
                if number % 2:
                    answer = application.ask("GET", "/api/v1/users/me", user=person)
                else:
                    post = {"title": f"{number}", "content": "x"}
                    answer = application.ask("POST", "/api/v1/posts", post, user=person)
                row.count(answer.is_success, answer)
    assert deployment.sql("SELECT count(*) FROM posts") == [((row.of + 1) // 2,)]
    row.check()
