"""The advice of docs/performance.md with its worth, from the numbers of the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.designs import OURS
from benchmarks.tables import number, table

NEEDED = {"round_trips", "latency", "patterns", "concurrency", "cold_start"}
NAME = OURS.name
# SQLAlchemy without options.
STOCK = "create_engine(url)"


def advice(known: dict[str, Any]) -> str:
    """Return a row for each piece of advice: what to do, the number without it and with it."""
    rows = [*_flights(known["round_trips"]), *_patterns(known["patterns"]), *_latency(known["latency"])]
    return table(["", "without", "with"], [*rows, *_busy(known["concurrency"]), _cold(known["cold_start"])])


def _flights(document: dict[str, Any]) -> Iterator[list[str]]:
    direct = document["flights"]["direct"]
    ours, stock = direct[NAME], direct[STOCK]
    one, two, added = "read one row", "two independent reads", "ORM: add, commit, return"
    yield [f"read in a reading session, not with {STOCK}", _trips(stock[one]), _trips(ours[one])]
    yield [
        "`LAST` on the last statement, not the ORM's add",
        _trips(ours[added]),
        _trips(ours["write one row"]),
    ]
    yield ["`batch`, not one after the other", _trips(2 * ours[one]), _trips(ours[two])]
    yield ["50 rows in one `insert`, not 50", _trips(50 * ours["write one row"]), _trips(ours["50 inserts"])]


def _patterns(document: dict[str, Any]) -> Iterator[list[str]]:
    delay, found = list(document["n_plus_one"].items())[-1]
    best = found[f"{NAME}, joinedload"]
    yield [
        f"{document['posts']} rows with their authors in one query, {delay} ms away",
        f"{number(found['lazy']['ms'])} ms",
        f"{number(best['ms'])} ms",
    ]
    depth, page = list(document["pages"].items())[-1]
    offset, keyset = page["offset"]["ms"], page["keyset"]["ms"]
    yield [
        f"a page behind {int(depth):,} rows by cursor, not offset",
        f"{number(offset, 1)} ms",
        f"{number(keyset, 1)} ms",
    ]


def _latency(document: dict[str, Any]) -> Iterator[list[str]]:
    by_delay = document["latency_ms"]["lambda"]
    near, *_, far = by_delay
    yield [
        f"a function beside its database, not {far} ms away: a read",
        f"{number(by_delay[far][NAME]['median'], 1)} ms",
        f"{number(by_delay[near][NAME]['median'], 1)} ms",
    ]


def _busy(document: dict[str, Any]) -> Iterator[list[str]]:
    at_once = str(document["at_once"][-2])
    shared, compiled = f"{NAME}, shared reads", f"{NAME}, shared reads, compiled"
    (near, nearest), *_, (far, farthest) = document["asgi"].items()
    for what, of, slow, quick in (
        (f"reads that share connections (default), not one each: {far} ms away", farthest, NAME, shared),
        (f"compiled queries without a session, not `session.get`: {near} ms away", nearest, shared, compiled),
    ):
        told = [f"{number(of[name][at_once]['per_second'])} a second" for name in (slow, quick)]
        yield [f"{what}, {at_once} at once in a process", *told]


def _cold(document: dict[str, Any]) -> list[str]:
    network = document["networks"][-1]
    slow, quick = (document["ms"][name][network]["median"] for name in (STOCK, "Lambda's entrypoint"))
    return [
        f"a connection opened during the imports (default), not {STOCK}: the first row, network {network}",
        f"{number(slow)} ms",
        f"{number(quick)} ms",
    ]


def _trips(count: int | None) -> str:
    return number(count, unit=" round trip" if count == 1 else " round trips")
