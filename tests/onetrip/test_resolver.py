"""Looking a host up ends with the deadline, and finds what the system's resolver finds."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lib.onetrip.deadlines import deadline
from lib.onetrip.resolver import async_resolved, resolved
from tests.onetrip.environment import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

# The system's resolver gives up after ten seconds or more; the deadline is one.
BOUND_SECONDS = 5.0
RESOLVED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"host": "127.0.0.1"}, {}),
    ({"host": "::1", "port": 5}, {}),
    ({"host": "/run/postgresql"}, {}),
    ({"dbname": "app"}, {}),
    ({"host": "no-such-host.invalid", "hostaddr": "127.0.0.1"}, {}),
    ({"host": "/run/one,127.0.0.1", "port": "1,2"}, {}),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The findings of a program in a network of its own, whose name server is silent."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rmn", "true"], check=False).returncode:
        pytest.skip("this system gives no process a network of its own")
    names: Path = tmp_path_factory.mktemp("names") / "resolv.conf"
    names.write_text("nameserver 127.0.0.1\n")
    program = f'mount --bind {names} /etc/resolv.conf && exec "{sys.executable}" -m tests.onetrip.nameless'
    ran = subprocess.run(
        [unshare, "-rmn", "sh", "-c", program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    measured: dict[str, float] = json.loads(ran.stdout)
    return measured


@pytest.mark.parametrize("way", ["sync", "async", "at once"])
def test_a_silent_name_server_holds_nobody_beyond_the_deadline(found: dict[str, float], way: str) -> None:
    """Connecting ends with the deadline, sync, async and for eight threads at once."""
    assert found[way] < BOUND_SECONDS


def test_a_silent_name_server_does_not_stop_the_imports(found: dict[str, float]) -> None:
    """The early connection leaves the interpreter to the others while it waits."""
    assert found["early"] < BOUND_SECONDS / 10


def test_a_silent_name_server_costs_one_thread(found: dict[str, float]) -> None:
    """Tries that were given up do not pile up: the lookups of one name are one."""
    assert found["lookups"] == 1


@pytest.mark.parametrize(("given", "added"), RESOLVED)
def test_what_is_no_name_stays_as_it_is(given: dict[str, Any], added: dict[str, Any]) -> None:
    """Addresses, sockets and what has an address already are not looked up."""
    assert resolved(given) == {**given, **added}
    assert asyncio.run(async_resolved(given)) == {**given, **added}


def test_each_address_of_a_name_is_tried_in_turn() -> None:
    """Host and port stand beside each address, the order being the resolver's."""
    addresses = [
        str(address[0]) for *_, address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    ]
    times = len(addresses)
    assert resolved({"host": "localhost", "port": 5}) == {
        "host": ",".join(["localhost"] * times),
        "port": ",".join(["5"] * times),
        "hostaddr": ",".join(addresses),
    }


def test_a_name_that_is_not_found_leaves_the_others() -> None:
    """Of several hosts those that can be found are tried, and the error names the one that cannot."""
    hosts = {"host": "127.0.0.1,no-such-host.invalid", "port": "1,2"}
    with deadline(BOUND_SECONDS * 4):
        assert resolved(hosts) == {"host": "127.0.0.1", "port": "1", "hostaddr": "127.0.0.1"}
        with pytest.raises(OSError, match=r"failed to resolve host 'no-such-host\.invalid'"):
            resolved({"host": "no-such-host.invalid"})
