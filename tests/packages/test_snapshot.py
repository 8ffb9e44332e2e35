"""A function that starts from a snapshot (SnapStart) has nothing in it that cannot be copied."""

from __future__ import annotations

from pathlib import Path

from tests.example.conftest import authorization
from tests.onetrip.events import Request
from tests.onetrip.servers import Servers
from tests.packages.runtime_api import SNAPSTART, instance
from tests.packages.runtimes import Urls
from tests.packages.test_session import SESSION, connections


def test_no_connection_is_in_the_snapshot(servers: Servers, urls: Urls, lambda_api: Path) -> None:
    """When the snapshot is taken nothing is connected; restored, it serves at once."""
    with instance(lambda_api, SNAPSTART, **urls.variables) as function:
        assert connections(servers, urls) == 0
        function.restore()
        assert function.ask(SESSION["create"][0]).status == 201
        assert function.ask(Request("GET", "/api/v1/users/1", headers=authorization(1))).status == 200
        assert connections(servers, urls) > 0
