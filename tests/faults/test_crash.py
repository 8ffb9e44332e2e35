"""PostgreSQL is killed under writes: what was acknowledged is there, and the application recovers."""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from tests.onetrip.network import until

if TYPE_CHECKING:
    from lib.onetrip.testing.postgres import LocalPostgres
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Deployment

WRITERS = 4
WRITES_A_CRASH = 50


def test_what_was_acknowledged_survives_a_crash(own: Deployment, rows: Rows, chance: random.Random) -> None:
    """Each crash comes in the midst of writes; each write that got a 201 is found after it."""
    row = rows("crash", 500, 100)
    (person,) = own.people()
    acknowledged: list[int] = []
    pooler = own.servers.pooler
    with own.serving(pooler.port, REQUEST_TIMEOUT_SECONDS="5") as application:
        for crash in range(row.of // WRITES_A_CRASH):
            over = Event()

            def write(number: int, over: Event = over) -> None:
                while not over.is_set():
                    post = {"title": f"{number}", "content": "x"}
                    answer = application.ask("POST", "/api/v1/posts", post, user=person)
                    if answer.status == 201:
                        acknowledged.append(answer.json["id"])
                    assert answer.status in {201, 503, 504}, answer

            with ThreadPoolExecutor(WRITERS) as writers:
                writing = [writers.submit(write, number) for number in range(WRITERS)]
                try:
                    enough = WRITES_A_CRASH * (crash + 1) + chance.randrange(10)
                    until(partial(_has, acknowledged, enough))
                    _kill(own.servers.postgres)
                finally:
                    over.set()
                own.servers.postgres.start()
                for done in writing:
                    done.result()
            until(lambda: application.ask("GET", "/api/v1/users/me", user=person).status == 200)
    stored = {found[0] for found in own.sql("SELECT id FROM posts")}
    row.note = f"{row.of // WRITES_A_CRASH} crashes, {len(acknowledged)} acknowledged"
    for number in acknowledged[: row.of]:
        row.count(number in stored, f"lost {number}")
    assert set(acknowledged) <= stored
    row.check()


def _has(found: list[int], count: int) -> bool:
    return len(found) >= count


def _kill(postgres: LocalPostgres) -> None:
    """End the server and all its processes at once, as a machine that fails would."""
    pid = int((postgres.places.data / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for number in (pid, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))
    # A dead process that is not reaped looks alive to `pg_ctl`; after the end of a machine there is none.
    for lock in (postgres.places.data / "postmaster.pid", *postgres.places.socket_folder.glob(".s.*.lock")):
        lock.unlink(missing_ok=True)


def _is_zombie(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
