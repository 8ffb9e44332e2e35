"""The pages of results, generated from the JSON files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks import advice_table as advice
from benchmarks import capacity
from benchmarks.sections import SECTIONS
from benchmarks.tables import Section, number, table
from tests.onetrip.environment import PROJECT

FOLDER = PROJECT / "docs" / "benchmarks"
INTRODUCTION = """\
# Benchmarks

`make bench` measures all of this on your machine and writes this page, its pictures and its numbers.
`make bench-quick` takes some three minutes, with fewer repetitions, and writes to `build/benchmarks`.
`make bench ARGS=latency` repeats one part. Compare rows with each other: another machine has other
milliseconds, and a busy machine is slower. Every design serves the same endpoint from the same table of the
same database. The designs are in `benchmarks/peers`, a page of code each. Ours writes its log line for each
request, as it does when deployed; the others write none. *By hand* is the driver without ORM and safety: the
limit. The networks are a proxy that delays each burst of bytes."""
HOLD_AT_MS = (0.5, 2.0, 10.0)
FLEET = 10_000


def documents(folder: Path) -> dict[str, Any]:
    """Return the results of each benchmark by its name."""
    found = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def rendered(folder: Path, *, with_documents: bool = True) -> dict[Path, str]:
    """Return the text of every page and picture that belongs to the JSON files of `folder`."""
    known = documents(folder)
    sections = {name: SECTIONS[name](document) for name, document in known.items()}
    pages = {folder / f"{name}.svg": section.svg for name, section in sections.items()}
    pages[folder / "README.md"] = _page(sections, known)
    if with_documents:
        pages[PROJECT / "README.md"] = _filled(PROJECT / "README.md", "measured", _brief(known))
        if "cold_start" in known:
            tables = sections["cold_start"].text.partition("\n\n")[2]
            text = f"{tables}\n\n{_conditions(known['cold_start'])}"
            pages[folder / "cold-start.md"] = _filled(folder / "cold-start.md", "cold-start", text)
        if known.keys() >= advice.NEEDED:
            path = PROJECT / "docs" / "performance.md"
            pages[path] = _filled(path, "advice", advice.advice(known))
        if {"exhaustion", "latency"} <= known.keys():
            path = PROJECT / "docs" / "capacity.md"
            text = _filled(path, "checked", _checked(known["exhaustion"]))
            hold = known["exhaustion"]["instances"]
            pages[path] = _filled_text(text, "fleet", _fleet(hold, known["latency"]["hold"]))
    return pages


def write(folder: Path, *, with_documents: bool = True) -> list[Path]:
    """Write the pages and pictures, and return their paths."""
    pages = rendered(folder, with_documents=with_documents)
    for path, text in pages.items():
        path.write_text(text)
    return list(pages)


def _page(sections: dict[str, Section], known: dict[str, Any]) -> str:
    parts = [INTRODUCTION]
    for name, section in sections.items():
        picture = f"![{section.title}]({name}.svg)"
        parts += [f"## {section.title}", picture, section.text, _conditions(known[name])]
    return "\n\n".join(parts) + "\n"


def _conditions(document: dict[str, Any]) -> str:
    under = document["conditions"]
    load = f"{under['load_average_before'][0]:g} before and {under['load_average_after'][0]:g} after"
    kind = "A quick run, with few repetitions" if under["quick"] else "Taken"
    return (
        f"<sub>{kind} {under['taken_at'][:10]} in {under['seconds']:.0f} s on {under['processors']} processors "
        f"({under['processor']}), load average {load}; Python {under['python']}, SQLAlchemy "
        f"{under['sqlalchemy']}, psycopg {under['psycopg']}, asyncpg {under['asyncpg']}; seed {under['seed']}. "
        f"All numbers: [{document['benchmark']}.json]({document['benchmark']}.json).</sub>"
    )


def _brief(known: dict[str, Any]) -> str:
    """Return the README's table."""
    rows = []
    if "round_trips" in known:
        flights = known["round_trips"]["flights"]["direct"]
        cases = ("read one row", "ORM: add, commit, return", "first request of a process")
        rows += [
            [f"round trips: {case}", *(number(flights[name][case]) for name in _shown())] for case in cases
        ]
    if "latency" in known:
        for delay, of in known["latency"]["latency_ms"]["lambda"].items():
            if delay != "0":
                values = [number(of.get(name, {}).get("median"), 1) for name in _shown()]
                rows.append([f"ms of a warm request, {delay} ms from the database", *values])
    if "exhaustion" in known:
        for size, of in known["exhaustion"]["instances"].items():
            shares = [
                100 * of[name]["failed"] / of[name]["requests"] if name in of else None for name in _shown()
            ]
            cells = ["" if share is None else number(share, 0, " %") for share in shares]
            rows.append([f"failed requests, {size} instances on 104 connections", *cells])
    head = ["", *(name.partition(":")[0] for name in _shown())]
    picture = "![A warm request](docs/benchmarks/latency.svg)"
    return f"{picture}\n\n{table(head, rows)}"


def _shown() -> tuple[str, ...]:
    return (
        "this project",
        "create_engine(url)",
        "sync, 5 + 10, ping",
        "SQLModel, asyncpg, ping",
        "psycopg by hand",
    )


def _checked(exhaustion: dict[str, Any]) -> str:
    rows = [
        [f"{row['instances']}: {row['design']}", number(100 * row["failed_expected"], 1, " %"),
         number(100 * row["failed"], 1, " %"),
         "" if row["busy_expected"] is None else number(row["busy_expected"], 1), row["connections"]]
        for row in capacity.checked(exhaustion)
    ]  # fmt: skip
    head = [
        "instances",
        "fail, by the model",
        "failed",
        "busy on average, by the model",
        "connections seen at most",
    ]
    return table(head, rows)


def _fleet(runs: dict[str, Any], hold: dict[str, Any]) -> str:
    """Return the table of a large fleet: connections and compute by the hold time of a request."""
    local = min(of["this project"]["hold_ms"] for of in runs.values())
    far = hold["ms"]
    cases = [("this project, a read", local)]
    cases += [(f"{name}, a read {hold['round_trip_ms']} ms away", ms) for name, ms in far.items()]
    load = capacity.Load(FLEET, 1.0)
    rows = [
        [name, number(ms, 2), number(load.busy_connections(ms), 0),
         *(number(capacity.per_second(most, ms)) for most in (104, 839, 4000)),
         _size(capacity.smallest_compute(load.per_second, ms))]
        for name, ms in cases
    ]  # fmt: skip
    head = ["", "ms held", f"busy at {load.per_second:,.0f}/s", "0.25 CU takes /s, processors aside", "2 CU", "9 CU and more",
            f"for {load.per_second:,.0f}/s"]  # fmt: skip
    return table(head, rows)


def _size(units: float | None) -> str:
    return "none" if units is None else f"{units:g} CU"


def _filled(path: Path, mark: str, text: str) -> str:
    return _filled_text(path.read_text(), mark, text)


def _filled_text(page: str, mark: str, text: str) -> str:
    """Return the page with `text` between its marks."""
    place = re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=\n<!-- /{mark} -->)", re.DOTALL)
    filled, count = place.subn(lambda _: text, page)
    if count != 1:
        raise ValueError(f"the page needs one place between <!-- {mark} --> and <!-- /{mark} -->")
    return filled
