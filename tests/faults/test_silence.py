"""A peer that fell silent while nothing was asked costs seconds, not the deadline."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.faults.promises import SHORT
from tests.faults.quiet_process import DEADLINE_SECONDS
from tests.onetrip.environment import PROJECT
from tests.onetrip.fault_proxy import Proxy

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.onetrip.servers import Servers

IDLE_SECONDS = (0.2, 1.0, 3.0, 7.0)
WORKS = ("read", "kept", "write", "async_read", "async_kept", "async_write", "probe")
# On a busy machine a new connection takes its time; the deadline is far beyond.
BOUND_SECONDS = DEADLINE_SECONDS * 0.7


class _Quiet:
    """A process that works when told, and its network."""

    def __init__(self, proxy: Proxy, process: subprocess.Popen[str]) -> None:
        self.proxy = proxy
        self._process = process

    def work(self, name: str, number: int) -> tuple[str, float]:
        """The answer of the work, and its seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, number]) + "\n")
        self._process.stdin.flush()
        answer, seconds = json.loads(self._process.stdout.readline())
        return answer, seconds

    def pass_by(self, seconds: float, *, frozen: bool) -> None:
        """Let time pass, for the process or without it."""
        if frozen:
            self._process.send_signal(signal.SIGSTOP)
        # The passing of time is the fault.
        time.sleep(seconds)
        if frozen:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def _quiet(servers: Servers, route: str, database: str) -> Iterator[_Quiet]:
    url = servers.url(route, database)
    with Proxy((str(url.host), int(url.port or 0))).running() as proxy:
        near = replace(url, host="127.0.0.1", port=proxy.port).render(hide_password=False)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.quiet_process", near],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            yield _Quiet(proxy, process)


@pytest.mark.parametrize("route", ["direct", "pooled"])
def test_a_silent_peer_costs_seconds_and_not_the_deadline(servers: Servers, rows: Rows, route: str) -> None:
    """Idle or frozen, whatever was not done for sure is asked again on a new connection, and done once."""
    database = f"silence_{uuid4().hex}"
    servers.administer(f"CREATE DATABASE {database}")
    servers.administer("CREATE TABLE notes (id int PRIMARY KEY)", database)
    places = list(itertools.product(IDLE_SECONDS, (False, True)))
    works = WORKS[::3] if SHORT else WORKS
    row = rows(f"silence-{route}", len(places) * len(WORKS), len(places) * len(works))
    worst = dict.fromkeys(WORKS, 0.0)

    def tried(numbered: tuple[int, tuple[float, bool]]) -> None:
        place, (idle_seconds, frozen) = numbered
        with _quiet(servers, route, database) as quiet:
            for turn, name in enumerate(works):
                number = place * 100 + turn * 2
                quiet.work(name, number)
                quiet.proxy.forget()
                quiet.pass_by(idle_seconds, frozen=frozen)
                answer, seconds = quiet.work(name, number + 1)
                worst[name] = max(worst[name], seconds)
                kept = answer == "answered" and seconds < BOUND_SECONDS
                row.count(
                    kept, f"{name}, {idle_seconds:g} s, frozen {frozen}: {answer} after {seconds:.1f} s"
                )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(tried, enumerate(places)))
    row.note = "at most " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in worst.items() if seconds)
    writes = sum(name.endswith("write") for name in works)
    stored = servers.administer("SELECT count(*) FROM notes", database)
    servers.administer(f"DROP DATABASE {database} WITH (FORCE)")
    assert stored == [(len(places) * writes * 2,)]
    row.check()
