"""The network for tests that read and write what passes: TLS ends at the proxy, whatever lies behind it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from tests.onetrip.fault_proxy import Proxy

if TYPE_CHECKING:
    import pytest
    from sqlalchemy.exc import DBAPIError

    from tests.onetrip.conftest import Certificates
    from tests.onetrip.servers import Servers

PATIENCE_SECONDS = 15.0


@contextmanager
def transparent(servers: Servers, certificates: Certificates, route: str) -> Iterator[Proxy]:
    """A proxy in front of `route` that speaks TLS with the client and sees what it says."""
    port = servers.url(route).port
    assert port is not None
    with Proxy(("127.0.0.1", port), certificates.context()).running() as proxy:
        yield proxy


def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; fail if it does not come to that."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        Event().wait(0.01)


def message(kind: bytes, content: bytes) -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + struct.pack("!i", len(content) + 4) + content


def end_backends(servers: Servers, database: str) -> None:
    """End every server process that serves `database`, and wait until they are gone."""
    servers.administer(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "  # noqa: S608  (our own name)
        f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )


def sqlstate(failure: pytest.ExceptionInfo[DBAPIError]) -> str | None:
    """The code of a database error that was raised."""
    code: str | None = getattr(failure.value.orig, "sqlstate", None)
    return code
