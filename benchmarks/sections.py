"""Sections of the page, from a benchmark's JSON: tables, columns where ours is not the best, a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import cpu, latency, round_trips
from benchmarks.designs import DESIGNS, NO_DATABASE, NULL_POOL, OURS
from benchmarks.svg_chart import Bars, draw

Document = Mapping[str, Any]
Number = float | None
KINDS = {design.name: design.kind for design in [*DESIGNS, NULL_POOL, NO_DATABASE]}
ENTRYPOINTS = {"asgi": "Vercel's entrypoint (ASGI)", "lambda": "Lambda's entrypoint (Mangum)"}


@dataclass(frozen=True)
class Section:
    """A heading, its Markdown text, and a picture."""

    title: str
    text: str
    svg: str


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, with the first column to the left and numbers to the right."""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in [head, ruler, *rows])


def number(value: Number, digits: int = 0, unit: str = "") -> str:
    """Format a number for a table."""
    return "fails" if value is None else f"{value:,.{digits}f}{unit}"


def round_trip_section(document: Document) -> Section:
    """Round trips by case."""
    flights, cases = document["flights"], document["cases"]
    shown = [case for case in cases if case != round_trips.AGAIN]
    parts = []
    for route in round_trips.ROUTES:
        rows = [[_name(name), *(number(of[case]) for case in cases)] for name, of in flights[route].items()]
        parts += [f"**{route.capitalize()}:**", table([route, *cases], rows)]
        parts.append(
            _not_best({case: {name: of[case] for name, of in flights[route].items()} for case in cases})
        )
    direct = flights["direct"]
    names = list(direct)
    picked = [shown[0], shown[3], shown[4], round_trips.FIRST]
    svg = draw(
        "Round trips of a request",
        "counted on the wire, TLS and password on, direct endpoint; a first request includes connecting",
        _rows(names),
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
            [_name(name),
             *(number(values[d].get(name), 2) for d in delays),
             *(number(by_delay[d].get(name, {}).get("p95"), 2) for d in delays)]
            for name in names
        ]  # fmt: skip
        parts += [table(head, rows), _ratios(values), _not_best({f"{d} ms": values[d] for d in delays}, 2)]
    busy = document["throughput"]
    rows = [
        [_name(name), *(number(busy[d].get(name, {}).get("per_second")) for d in busy)]
        for name in busy[delays[0]]
    ]
    head = [f"answers a second, {document['at_once']} at once", *(f"{delay} ms" for delay in busy)]
    rates = {f"{d} ms": {name: of["per_second"] for name, of in busy[d].items()} for d in busy}
    parts += ["One process, ASGI, each with its own pool:", table(head, rows), _not_best(rates, 0, max)]
    hold = document["hold"]
    rows = [[_name(name), number(value, 2)] for name, value in hold["ms"].items()]
    head = ["", f"ms that a read holds a server connection, {hold['round_trip_ms']} ms round trip"]
    parts += [
        "By the pooler's counters. Designs that are not listed do not work behind a pooler:",
        table(head, rows),
    ]
    parts.append(_not_best({"held": hold["ms"]}, 2))
    first = document["latency_ms"]["lambda"]
    names = list(first[delays[0]])
    svg = draw(
        "A warm request with one query",
        "median ms through Lambda's entrypoint, by the network's round trip to the database",
        _rows(names),
        [Bars(f"{d} ms", [first[d].get(name, {}).get("median") for name in names], 1) for d in delays],
    )
    text = "A warm request that reads one row by its key, by the round trip between function and database."
    return Section("Latency and throughput", "\n\n".join([text, *parts]), svg)


def cpu_section(document: Document) -> Section:
    """Processor time of a request."""
    found = document["cpu_ms"]
    rows = [
        [_name(name), number(of["median"], 3), number(of["min"], 3), number(of["above_alone"], 3)]
        for name, of in found.items()
    ]
    head = ["ms of processor time a request", "median", "best batch", f"above {cpu.ALONE}"]
    names = list(found)
    svg = draw(
        "Processor time of a warm request",
        "user and system ms a request, through Lambda's entrypoint; the function's side alone",
        _rows(names),
        [Bars("median ms", [found[name]["median"] for name in names], 2)],
    )
    best = {"processor time": {name: found[name]["median"] for name in found if name in KINDS}}
    text = (
        "Processor time of the function for a request that reads one row, in alternating batches. The last "
        "column is the median of the differences between batches of the same round."
    )
    return Section("Processor time", "\n\n".join([text, table(head, rows), _not_best(best, 3)]), svg)


def cold_start_section(document: Document) -> Section:
    """Milliseconds from the start of a process to its first row."""
    found, networks = document["ms"], document["networks"]
    head = ["median ms to the first row", *networks, "memory, MB"]
    rows = [
        [_name(name), *(number(of[at]["median"]) for at in networks), number(document["memory_mb"][name])]
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
    text = "The meaning of the rows, and the phases of a start: [cold-start.md](cold-start.md)."
    parts = [text, table(head, rows), table(["share of the target", *networks], targets)]
    return Section("Cold start", "\n\n".join(parts), svg)


def exhaustion_section(document: Document) -> Section:
    """Many instances on few connections."""
    sizes = document["instances"]
    rows = [
        [f"{size}: {_name(name)}", document["endpoints"][name], number(_answered(of), 1, " %"),
         *(number(of["ms"] and of["ms"][key], 1) for key in ("median", "p95", "p99")), of["connections"]]
        for size, designs in sizes.items() for name, of in designs.items()
    ]  # fmt: skip
    head = ["instances", "endpoint", "answered", "p50 ms", "p95 ms", "p99 ms", "server connections"]
    names = list(next(iter(sizes.values())))
    svg = draw(
        f"Many instances, {document['max_connections']} server connections",
        f"requests answered, in %; each instance asks every {document['every_seconds']:g} s",
        _rows(names, no_pool=True),
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
    return Section("Exhaustion", "\n\n".join([text, table(head, rows), _not_best(best, 1)]), svg)


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
    "cpu": cpu_section,
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


def _name(name: str) -> str:
    return f"**{name}**" if name.startswith(OURS.name) else name


def _rows(names: Sequence[str], *, no_pool: bool = False) -> list[tuple[str, str]]:
    default = "peer" if no_pool else "ours"
    return [(name, KINDS.get(name, default if name != cpu.ALONE else "limit")) for name in names]


def _ratios(values: Mapping[str, Mapping[str, float]]) -> str:
    """Return the ratio of our time to the raw driver's."""
    raw = DESIGNS[-1].name
    ratios = [f"{of[OURS.name] / of[raw]:.2f} at {delay} ms" for delay, of in values.items() if raw in of]
    return f"Ours by {raw}: {', '.join(ratios)}."


def _not_best(
    columns: Mapping[str, Mapping[str, Number]], digits: int = 0, choose: Callable[..., Any] = min
) -> str:
    """List the columns in which a peer is better than ours: smaller, or larger with `max`."""
    said = []
    for column, values in columns.items():
        ours = values.get(OURS.name)
        numbers = {name: value for name, value in values.items() if value is not None and name != OURS.name}
        if not numbers:
            continue
        name, best = choose(numbers.items(), key=lambda item: item[1])
        if ours is None or (best != ours and choose(best, ours) == best):
            said.append(f"{column} ({name} {number(best, digits)}, ours {number(ours, digits)})")
    if not said:
        return "Ours is the best of every column, the limit's rows included."
    return f"Where ours is not the best: {'; '.join(said)}."


if set(ENTRYPOINTS) != set(latency.ENTRYPOINTS):
    raise AssertionError("an entrypoint has no name")
