"""Many thousand requests leave the process as they found it."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.promises import times

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Application, Deployment
    from tests.onetrip import pgbouncer

CLIENTS = 4
POOL = 2


@dataclass(frozen=True)
class Size:
    """The memory, descriptors and threads of a process."""

    kib: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Size:
        """As the kernel tells."""
        status = Path(f"/proc/{pid}/status").read_text()
        numbers = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE)}
        return cls(numbers["VmRSS"], len(list(Path(f"/proc/{pid}/fd").iterdir())), numbers["Threads"])


def test_a_process_does_not_grow(
    deployment: Deployment,
    application: Application,
    tls_pooler: pgbouncer.PgBouncer,
    rows: Rows,
    chance: random.Random,
) -> None:
    """Once it is warm: memory within 2 %, descriptors and threads at most 2 more, its two connections."""
    row = rows("soak", 10_000, 2_000)
    (person,) = deployment.people()
    source, target = deployment.accounts(person, ["100000.00", "0.00"])
    kinds = [
        ("GET", "/api/v1/users/me", None),
        ("GET", "/api/v1/accounts", None),
        ("GET", "/api/v1/posts?limit=5", None),
        ("GET", "/api/v1/posts/999999999", None),
        ("POST", "/api/v1/posts", {"title": "t", "content": "x" * 500}),
        ("POST", "/api/v1/posts", {"title": ""}),
        (
            "POST",
            "/api/v1/transfers",
            {"from_account_id": source, "to_account_id": target, "amount": "0.01"},
        ),
    ]
    expected = {200, 201, 404, 422}

    def ask(kind: tuple[str, str, object]) -> str:
        answer = application.ask(*kind, user=person)
        return "" if answer.status in expected else str(answer)

    def many(count: int) -> list[str]:
        with ThreadPoolExecutor(CLIENTS) as clients:
            return list(clients.map(ask, [chance.choice(kinds) for _ in range(count)]))

    many(times(3_000, 1_000))
    before = Size.of(application.pid)
    for said in many(row.of):
        row.count(not said, said)
    after = Size.of(application.pid)
    connections = [one for one in tls_pooler.show("CLIENTS") if one["database"] == deployment.database]
    growth = after.kib / before.kib - 1
    row.note = (
        f"memory {growth:+.2%} of {before.kib // 1024} MiB, "
        f"descriptors {after.descriptors - before.descriptors:+}, "
        f"threads {after.threads - before.threads:+}, {len(connections)} connections"
    )
    row.check()
    assert growth <= 0.02
    assert after.descriptors - before.descriptors <= 2
    assert after.threads - before.threads <= 2
    assert len(connections) <= POOL
