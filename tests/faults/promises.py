"""The promises under fault, and the results of a run; `promises_page` makes the document of them."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.onetrip import pgbouncer
from tests.onetrip.environment import PROJECT

# `FAULTS=short make faults` takes a few of each instead of all.
SHORT = os.environ.get("FAULTS", "long") == "short"
KEPT = PROJECT / "docs" / "promises.json"
RESULTS = PROJECT / "build" / "faults.json" if SHORT else KEPT
SEED = int(os.environ.get("FAULTS_SEED", "20261121"))

# In the order of the table: a name for the row, the fault, the promise.
PROMISES: dict[str, tuple[str, str]] = {
    "commit-deferred": (
        "COMMIT fails after the route returned: deferred constraint",
        "never a 2xx, nothing stored",
    ),
    "commit-killed": ("COMMIT fails: the backend is ended in it", "never a 2xx, nothing stored"),
    "commit-lambda": ("the same two in a function on Lambda", "never a 2xx, nothing stored"),
    "table-direct": (
        "eight kinds of units cut, silenced, delayed or ended by the server after each protocol message",
        "never acknowledged and not stored, never past the deadline, nothing leaked",
    ),
    "table-pooled": (
        "eight kinds of units through PgBouncer, with the same faults after each protocol message",
        "never acknowledged and not stored, never past the deadline, nothing leaked",
    ),
    **{
        f"stock-{route}-{way}": (
            f"random sequences of operations beside the stock dialect, {told}, {way}",
            "the same answers, SQLSTATEs and rows",
        )
        for route, told in (
            ("direct", "direct"),
            ("pooled", "pooled"),
            ("plain", "with the single flight off"),
        )
        for way in ("sync", "async")
    },
    "silent-connect": ("silent peer at connect", "answered by the deadline, next request fine"),
    "silent-checkout": (
        "silent peer at checkout, after idle seconds",
        "no error: it is asked, for a second, and replaced",
    ),
    "silence-direct": (
        "peer silent since 0.2, 1, 3 or 7 s, process idle or frozen; reads, writes, probe, sync and async",
        "asked again on a new connection after some 3 s at most, done once",
    ),
    "silence-pooled": ("the same through PgBouncer", "the same"),
    "silent-query": ("silent peer in a query", "answered by the deadline, next request fine"),
    "silent-commit": (
        "silent peer in COMMIT",
        "answered by the deadline as unknown, stored once, next request fine",
    ),
    "idle-pooled": ("the pooler's idle backends ended before each request", "no error"),
    "idle-direct": ("idle backends ended before each request, without a pooler", "no error"),
    "idle-lambda": (
        "idle backends ended while a function on Lambda is frozen, before each request",
        "no error",
    ),
    "bank": (
        "bank: 8 accounts, 8 workers, transfers and reads while the network breaks in turn",
        "every read adds up, none negative, what was acknowledged is there once",
    ),
    "crash": (
        "PostgreSQL killed with -9 under writes, and restarted",
        "every acknowledged write is there; the application recovers by itself",
    ),
    "cut": (
        "connection cut after a random number of bytes; the client retries with its Idempotency-Key",
        "exactly one effect",
    ),
    "cut-read": (
        "connection cut after a random number of bytes of TLS's handshake, the login, a read or its answer",
        "no error",
    ),
    "start-uvicorn": (
        "started while the database refuses connections, or is silent",
        "it lives, says so by the deadline, and serves at once when the database is there",
    ),
    "start-lambda": (
        "the same in a function on Lambda",
        "it lives, says so by the deadline, and serves at once when the database is there",
    ),
    "cancelled-clients": (
        "clients disconnect at random moments",
        "no connection leaked, none idle in transaction",
    ),
    "cancelled-tasks": (
        "requests cancelled inside the process at random moments",
        "no connection leaked, none idle in transaction",
    ),
    "stopped": (
        "process stopped for longer than recycle, its backends gone meanwhile",
        "the next request succeeds",
    ),
    "budget-pooled": (
        "50 processes with three requests each at once, through a pooler of 20",
        "two client connections a process, and never more than 20 on the server",
    ),
    "budget-direct": (
        "50 processes with three requests each at once, without a pooler",
        "two connections a process on the server, of 104",
    ),
    "pgbouncer": (
        "PgBouncer: RELOAD, PAUSE and RESUME, restart, server pool of one, query_wait_timeout",
        "bounded answers, recovery without restart",
    ),
    "states": (
        (
            "database starting up, shutting down, read-only, out of connections, out of disk (simulated), "
            "role without rights"
        ),
        "the right status, Retry-After where it helps, nothing lost",
    ),
    "rotation": (
        "password rotated in the store under load, the old one refused",
        "one refresh, no failed request",
    ),
    "canaries": (
        "canaries in URL, token, query, body, headers, secret",
        "not in logs, answers to others, reprs, tracebacks",
    ),
    "canaries-pages": (
        (
            "canaries in URL, tokens, query, body, headers: /status, health, pool, logs; and while the "
            "database's host is not found"
        ),
        "in no page, in no log line but for the host that was not found",
    ),
    "canaries-metrics": (
        "the same: CloudWatch's metrics of a function, OpenTelemetry's spans and instruments",
        "in none",
    ),
    "canaries-doctor": (
        "canaries in URLs and stored secrets: the doctor, in lines and JSON",
        "it tells who could not log in where, and no secret",
    ),
    "canaries-start": (
        "canaries in settings that are refused at the start",
        "in no message, in no traceback",
    ),
    "fuzz-http": ("fuzzed requests", "no 5xx, no forged log line"),
    "fuzz-lambda": (
        "fuzzed Lambda events",
        "no 5xx, no failed invocation but for what is no request, no forged log line",
    ),
    "soak": (
        "soak",
        "memory within 2 %, descriptors and threads at most 2 more, connections at most the pool",
    ),
    "migrations": (
        "two migrations at once; a migration behind a long transaction",
        "one waits or gives up in time; the application keeps serving",
    ),
}


@dataclass
class Row:
    """One row of the table while its test runs: how many there are to be, how many came up to it."""

    name: str
    of: int
    full: int
    reached: int = 0
    note: str = ""
    failures: list[str] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)

    def count(self, kept: bool, what: object = "") -> None:  # noqa: FBT001  (what is counted)
        """Count one more try, and remember `what` happened if the promise was not kept."""
        if kept:
            self.reached += 1
        else:
            self.failures.append(str(what)[:300])

    def check(self) -> None:
        """Fail unless all came up to the promise."""
        assert not self.failures, f"{self.reached} of {self.of}; first of the others: {self.failures[:5]}"
        assert self.reached == self.of, f"{self.reached} of {self.of} were tried"

    def result(self) -> dict[str, Any]:
        """Return the stored form of the result."""
        fault, promise = PROMISES[self.name]
        result = {name: value for name, value in asdict(self).items() if name not in {"begin", "failures"}}
        return {
            **result,
            "fault": fault,
            "promise": promise,
            "failures": self.failures[:5],
            "seconds": round(time.monotonic() - self.begin, 1),
            "form": "short" if SHORT else "long",
            "seed": SEED,
            # The version, where it is not the pooler of the other runs.
            "pooler": pgbouncer.version() if pgbouncer.CHOSEN else "",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def times(full: int, short: int) -> int:
    """Return the number of tries: all, or a few in the short form."""
    return short if SHORT else full


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    note = f" ({row['note']})" if row["note"] else ""
    reached = f"{row['reached']:,} of {row['of']:,}"
    shortened = f", shortened from {row['full']:,}" if row["of"] < row["full"] else ""
    fault, promise = PROMISES[row["name"]]
    return f"| {fault}{note} | {promise} | {reached}{shortened} | {row['seconds']:g} |"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in their order."""
    order = list(PROMISES)
    rows = sorted(rows, key=lambda row: order.index(row["name"]))
    return "\n".join(["| fault | promise | reached | seconds |", "|---|---|---|---|", *map(line, rows)])


def keep(rows: list[dict[str, Any]]) -> None:
    """Put the rows of this run in the place of what was kept of them."""
    kept = stored(RESULTS)
    by_name = {(row["name"], bool(row.get("pooler"))): row for row in [*kept.get("rows", []), *rows]}
    store(RESULTS, {**kept, "rows": list(by_name.values())})


def stored(file: Path) -> dict[str, Any]:
    """Return the stored results of the runs so far."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return kept


def store(file: Path, kept: dict[str, Any]) -> None:
    """Keep the results in `file`."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
