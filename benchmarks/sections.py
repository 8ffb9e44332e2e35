"""Sections of the page, from a benchmark's JSON: tables, columns where ours is not the best, a picture."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import cold_start, latency, round_trips
from benchmarks.process_sections import concurrency_section, cpu_section, instructions_section
from benchmarks.svg_chart import Bars, draw
from benchmarks.tables import (
    ENTRYPOINTS,
    KINDS,
    Document,
    Section,
    not_best,
    number,
    pictured,
    ratios,
    shown_name,
    table,
)


def round_trip_section(document: Document) -> Section:
    """Round trips by case."""
    flights, cases = document["flights"], document["cases"]
    shown = [case for case in cases if case != round_trips.AGAIN]
    parts = []
    for route in round_trips.ROUTES:
        rows = [
            [shown_name(name), *(number(of[case]) for case in cases)] for name, of in flights[route].items()
        ]
        parts += [f"**{route.capitalize()}:**", table([route, *cases], rows)]
        parts.append(
            not_best({case: {name: of[case] for name, of in flights[route].items()} for case in cases})
        )
    direct = flights["direct"]
    names = list(direct)
    picked = [shown[0], shown[3], shown[4], round_trips.FIRST]
    svg = draw(
        "Round trips of a request",
        "counted on the wire, TLS and password on, direct endpoint; a first request includes connecting",
        pictured(names),
        [Bars(case.replace(", return", "").replace(" of a process", ""),
              [direct[name][case] for name in names]) for case in picked],
    )  # fmt: skip
    text = (
        "A round trip is a burst that the client sends before it awaits an answer; each TCP connection adds one. "
        "A first request includes the queries of the design's startup. *Fails*: the request was not answered "
        "with 2xx; behind a transaction pooler, other clients may have taken the names of prepared statements. "
        "After the server closed the connection, the last message to it may count, though no answer is awaited."
    )
    return Section("Round trips", "\n\n".join([text, *parts]), svg)


def latency_section(document: Document) -> Section:
    """Milliseconds, answers a second, and the hold time of a server connection."""
    parts = []
    delays: list[str] = []
    for entrypoint, by_delay in document["latency_ms"].items():
        delays = list(by_delay)
        values = {d: {name: of["median"] for name, of in by_delay[d].items()} for d in delays}
        head = [
            ENTRYPOINTS[entrypoint],
            *(f"{delay} ms" for delay in delays),
            *(f"p95 at {delay} ms" for delay in delays),
        ]
        names = list(by_delay[delays[0]])
        rows = [
            [shown_name(name),
             *(number(values[d].get(name), 2) for d in delays),
             *(number(by_delay[d].get(name, {}).get("p95"), 2) for d in delays)]
            for name in names
        ]  # fmt: skip
        parts += [table(head, rows), ratios(values), not_best({f"{d} ms": values[d] for d in delays}, 2)]
    busy = document["throughput"]
    rows = [
        [shown_name(name), *(number(busy[d].get(name, {}).get("per_second")) for d in busy)]
        for name in busy[delays[0]]
    ]
    head = [f"answers a second, {document['at_once']} at once", *(f"{delay} ms" for delay in busy)]
    rates = {f"{d} ms": {name: of["per_second"] for name, of in busy[d].items()} for d in busy}
    parts += [
        "One process, ASGI, each with its own pool, and each read with a connection of its own:",
        table(head, rows),
        not_best(rates, 0, max),
    ]
    hold = document["hold"]
    rows = [[shown_name(name), number(value, 2)] for name, value in hold["ms"].items()]
    head = ["", f"ms that a read holds a server connection, {hold['round_trip_ms']} ms round trip"]
    parts += [
        "By the pooler's counters. Designs that are not listed do not work behind a pooler:",
        table(head, rows),
    ]
    parts.append(not_best({"held": hold["ms"]}, 2))
    first = document["latency_ms"]["lambda"]
    names = list(first[delays[0]])
    svg = draw(
        "A warm request with one query",
        "median ms through Lambda's entrypoint, by the network's round trip to the database",
        pictured(names),
        [Bars(f"{d} ms", [first[d].get(name, {}).get("median") for name in names], 1) for d in delays],
    )
    text = "A warm request that reads one row by its key, by the round trip between function and database."
    return Section("Latency and throughput", "\n\n".join([text, *parts]), svg)


def cold_start_section(document: Document) -> Section:
    """Milliseconds from the start of a process to its first row."""
    found, networks = document["ms"], document["networks"]
    head = ["median ms to the first row", *networks, "memory, MB"]
    rows = [
        [
            shown_name(name),
            *(number(of[at]["median"]) for at in networks),
            number(document["memory_mb"][name]),
        ]
        for name, of in found.items()
    ]
    names = list(found)
    svg = draw(
        "Cold start: from the process's start to the first row",
        "median ms, by the network's round trip to the database; bytecode present",
        [(name, _cold_kind(name)) for name in names],
        [Bars(at.replace(" wake-up", ""), [found[name][at]["median"] for name in names]) for at in networks],
    )
    targets = [
        [f"{name}, {way}", *(number(of[at], 2) for at in networks)]
        for name, ways in document["by_target"].items()
        for way, of in ways.items()
    ]
    alone = [
        [shown_name(name), *(number(of[at], 2) for at in networks), number(cold_start.BY_ALONE.get(name), 2)
         if name in cold_start.BY_ALONE else ""]
        for name, of in cold_start.by_alone(document["rounds"]).items() if "never" not in name and name != cold_start.ALONE
    ]  # fmt: skip
    text = "The meaning of the rows, and the phases of a start: [cold-start.md](cold-start.md)."
    parts = [
        text,
        table(head, rows),
        table(["times FastAPI alone, median of pairs", *networks, "target"], alone),
        table(["share of the target", *networks], targets),
        f"Installed packages: {document.get('packages', 'those of development')}.",
    ]
    return Section("Cold start", "\n\n".join(parts), svg)


def exhaustion_section(document: Document) -> Section:
    """Many instances on few connections."""
    sizes = document["instances"]
    rows = [
        [f"{size}: {shown_name(name)}", document["endpoints"][name], number(_answered(of), 1, " %"),
         *(number(of["ms"] and of["ms"][key], 1) for key in ("median", "p95", "p99")), of["connections"]]
        for size, designs in sizes.items() for name, of in designs.items()
    ]  # fmt: skip
    head = ["instances", "endpoint", "answered", "p50 ms", "p95 ms", "p99 ms", "server connections"]
    names = list(next(iter(sizes.values())))
    svg = draw(
        f"Many instances, {document['max_connections']} server connections",
        f"requests answered, in %; each instance asks every {document['every_seconds']:g} s",
        pictured(names, no_pool=True),
        [Bars(f"{size} instances", [_answered(of[name]) for name in names]) for size, of in sizes.items()],
    )
    best = {
        f"{key} with {size} instances": {
            name: of["ms"][key] for name, of in designs.items() if not of["failed"]
        }
        for size, designs in sizes.items()
        for key in ("median", "p95")
    }
    text = (
        f"Instances that each ask every {document['every_seconds']:g} s, on a server of "
        f"{document['max_connections']} connections, behind a pooler of {document['pooler_connections']} or directly; "
        "times are those of answered requests over the whole run, connecting included. Only designs without "
        "failures are compared below. Larger fleets: [capacity](../capacity.md)."
    )
    return Section("Exhaustion", "\n\n".join([text, table(head, rows), not_best(best, 1)]), svg)


def patterns_section(document: Document) -> Section:
    """Published numbers of three patterns, beside measured ones."""
    pooling = [
        [
            name,
            number(of["per_second"]),
            number(of["p50_ms"], 1),
            number(of["memory_mb"]),
            number(of["failed"]),
        ]
        for name, of in document["pooling"].items()
    ]
    loading = document["n_plus_one"]
    ways = list(loading["0"])
    many = [
        [way, loading["0"][way]["queries"], *(number(loading[d][way]["ms"], 1) for d in loading)]
        for way in ways
    ]
    pages = [
        [f"{int(depth):,}", *(value for way in ("offset", "keyset") for value in
                              (number(of[way]["ms"], 2), number(of[way]["rows_walked"]), of[way]["buffers"]))]
        for depth, of in document["pages"].items()
    ]  # fmt: skip
    svg = draw(
        "50 articles and their authors",
        "median ms by the network's round trip, and queries sent",
        [(way, "ours" if way.startswith("this") else "peer") for way in ways],
        [
            Bars("queries", [loading["0"][way]["queries"] for way in ways]),
            *(Bars(f"{d} ms", [loading[d][way]["ms"] for way in ways], 1) for d in loading),
        ],
    )
    parts = [
        f"**Pooling**, {document['at_once']} requests at once in one process, no network in between. A guide says: "
        "none 450 a second and 250 MB, 20 connections 1,200 and 320 MB, 50 connections 1,350 and 450 MB.",
        table(["", "answers a second", "p50 ms", "memory, MB", "failed"], pooling),
        f"**N + 1**: {document['posts']} articles with their authors. A guide says: lazily 51 queries and 1,200 ms, "
        "`selectinload` 2 and 45 ms, `joinedload` 1 and 38 ms.",
        table(["", "queries", *(f"ms at {d} ms" for d in loading)], many),
        f"**Pages** of {document['page']} in {document['rows']:,} rows, by index, at a depth. A guide compares memory "
        "(2.3 MB against 0.05 MB); the difference is the number of rows that the server walks.",
        table(["depth", *(f"{way} {what}" for way in ("offset", "keyset") for what in ("ms", "rows", "buffers"))],
              pages),
    ]  # fmt: skip
    return Section("Pooling, N + 1 and pages", "\n\n".join(parts), svg)


SECTIONS: dict[str, Callable[[Document], Section]] = {
    "round_trips": round_trip_section,
    "latency": latency_section,
    "concurrency": concurrency_section,
    "cpu": cpu_section,
    "instructions": instructions_section,
    "cold_start": cold_start_section,
    "exhaustion": exhaustion_section,
    "patterns": patterns_section,
}


def _cold_kind(name: str) -> str:
    """Return the kind of a row: our entrypoints are no designs, and never connecting is their limit."""
    return KINDS.get(name, "limit" if "never" in name else "ours")


def _answered(report: Document) -> float:
    share: float = 100 * (1 - report["failed"] / report["requests"])
    return share


if set(ENTRYPOINTS) != set(latency.ENTRYPOINTS):
    raise AssertionError("an entrypoint has no name")
