"""Sections of the page about one process: many requests at once, processor time, instructions."""

from __future__ import annotations

from benchmarks import cpu
from benchmarks.designs import NO_DATABASE
from benchmarks.svg_chart import Bars, draw
from benchmarks.tables import (
    ENTRYPOINTS,
    KINDS,
    Document,
    Section,
    not_best,
    number,
    pictured,
    shown_name,
    table,
)


def concurrency_section(document: Document) -> Section:
    """Answers a second of one process, by round trip and requests at once."""
    asgi, sizes = document["asgi"], [str(number) for number in document["at_once"]]
    middle = sizes[-2]
    parts = []
    for delay, designs in asgi.items():
        head = [f"{delay} ms: answers a second", *(f"{size} at once" for size in sizes)]
        head += [
            f"p95 ms at {middle}",
            f"processor ms at {middle}",
            f"connections at {middle}",
            "not answered",
        ]
        rows = [
            [shown_name(name), *(number(of[size]["per_second"]) for size in sizes), number(of[middle]["p95"], 1),
             number(of[middle]["cpu_ms"], 2), number(of[middle]["connections"], 1),
             number(100 * max(of[size]["failed"] for size in sizes), 1, " %")]
            for name, of in designs.items()
        ]  # fmt: skip
        best = {
            f"{size} at once": {name: of[size]["per_second"] for name, of in designs.items()}
            for size in sizes
        }
        parts += [table(head, rows), not_best(best, 0, max)]
    served = document["http"]
    rows = [
        [shown_name(name), *(number(of[name]["per_second"]) for of in served.values()),
         *(number(of[name]["p95"], 1) for of in served.values())]
        for name in next(iter(served.values()))
    ]  # fmt: skip
    head = [
        f"answers a second by uvicorn, {document['clients']} clients",
        *(f"{delay} ms" for delay in served),
    ]
    parts += [
        "Through a real HTTP server, whose own work and that of its clients is in the numbers:",
        table([*head, *(f"p95 at {delay} ms" for delay in served)], rows),
    ]
    names = list(next(iter(asgi.values())))
    svg = draw(
        f"One process, {middle} requests at once",
        "answers a second, by the network's round trip to the database; Vercel's entrypoint",
        pictured(names),
        [Bars(f"{delay} ms", [asgi[delay][name][middle]["per_second"] for name in names]) for delay in asgi],
    )
    text = (
        "One process reads a row by its key for so many requests at once, as Vercel's Fluid compute and Lambda's "
        "Web Functions let it. *Connections* are the server connections that it holds on average: behind a pooler "
        "while a transaction lasts, else as many as are open. Ours has two, which reads use by turns "
        "(`DATABASE_SHARED_READS=off`) or [share](../shared-reads.md) (the default), and is shown with a pool of "
        "ten as well. Ours asks by `session.get` in a `def` route, and by a [compiled query](../compiled-queries.md) "
        "without a session in an `async def` one; those by hand are `async def`, too. A design that failed is measured once."
    )
    return Section("Many requests at once", "\n\n".join([text, *parts]), svg)


def instructions_section(document: Document) -> Section:
    """Instructions of a request, layer by layer."""
    found = document["thousands"]
    if not found:
        return Section(
            "Instructions", "They are counted where valgrind is installed.", draw("Instructions", "", [], [])
        )
    names = list(next(iter(found.values())))
    rows = [[shown_name(name), *(number(of[name]) for of in found.values())] for name in names]
    head = ["thousands of instructions a request", *(ENTRYPOINTS[entrypoint] for entrypoint in found)]
    svg = draw(
        "Instructions of a warm request",
        "thousands, by entrypoint; each layer of ours does one step more than the one above it",
        [(name, KINDS.get(name, "ours")) for name in names],
        [Bars(ENTRYPOINTS[entrypoint], [of[name] for name in names]) for entrypoint, of in found.items()],
    )
    text = (
        "The same counts come out on a busy machine. The routes of this project do one step more from row to row, "
        "until `session.get`; those below it read the same row in another way."
    )
    parts = [text, table(head, rows)]
    if starts := document.get("start_millions"):
        alone = starts[NO_DATABASE.name]
        counted = [[shown_name(name), number(of), number(of / alone, 2)] for name, of in starts.items()]
        parts.append(
            table(["a cold start up to its first row", "millions", f"times {NO_DATABASE.name}"], counted)
        )
    return Section("Instructions", "\n\n".join(parts), svg)


def cpu_section(document: Document) -> Section:
    """Processor time of a request."""
    found = document["cpu_ms"]
    alone = cpu.PAUSED if cpu.PAUSED in found else cpu.ALONE
    rows = [
        [shown_name(name), number(of["median"], 3), number(of["min"], 3), number(of["above_alone"], 3)]
        for name, of in found.items()
    ]
    head = ["ms of processor time a request", "median", "best batch", f"above {alone}"]
    names = list(found)
    svg = draw(
        "Processor time of a warm request",
        "user and system ms a request, through Lambda's entrypoint; the function's side alone",
        pictured(names),
        [Bars("median ms", [found[name]["median"] for name in names], 2)],
    )
    best = {"processor time": {name: found[name]["median"] for name in found if name in KINDS}}
    text = (
        "Processor time of the function for a request that reads one row, in alternating batches. The last "
        "column is the median of the differences between batches of the same round. A process that waits for nothing finds the "
        "processor's caches filled, so FastAPI and Mangum alone are measured after a pause as well."
    )
    return Section("Processor time", "\n\n".join([text, table(head, rows), not_best(best, 3)]), svg)
