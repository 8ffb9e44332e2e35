"""Parts of the page's sections: tables, the names in them, and columns where ours is not the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import cpu
from benchmarks.designs import DESIGNS, NO_DATABASE, NULL_POOL, OURS

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


def shown_name(name: str) -> str:
    return f"**{name}**" if name.startswith(OURS.name) else name


def pictured(names: Sequence[str], *, no_pool: bool = False) -> list[tuple[str, str]]:
    default = "peer" if no_pool else "ours"
    return [(name, KINDS.get(name, "limit" if name.startswith(cpu.ALONE) else default)) for name in names]


def ratios(values: Mapping[str, Mapping[str, float]]) -> str:
    """Return the ratio of our time to the raw driver's."""
    raw = DESIGNS[-1].name
    ratios = [f"{of[OURS.name] / of[raw]:.2f} at {delay} ms" for delay, of in values.items() if raw in of]
    return f"Ours by {raw}: {', '.join(ratios)}."


def not_best(
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
