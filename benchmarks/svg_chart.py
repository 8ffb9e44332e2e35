"""Charts as SVG: a row for each design, a bar for each number, in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABEL, ROW, HEAD = 860, 250, 26, 78
GAP, BAR = 14, 15
# The width beside the longest bar, for its number.
NUMBER = 52
# The legend, and the space that it takes.
LEGEND = {"ours": ("this project", 102), "peer": ("other designs", 114), "limit": ("the limit", 78)}
STYLE = """
    text { font: 12.5px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-size: 16px; font-weight: 600 }
    .note, .column { fill: #59636e }
    .ours-name { font-weight: 600 }
    .fails { fill: #b35900; font-style: italic }
    .paper { fill: #ffffff }
    .line { stroke: #d1d9e0 }
    .ours { fill: #0969da }
    .peer { fill: #9aa4af }
    .limit { fill: #57ab5a }
    @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 }
        .note, .column { fill: #9198a1 }
        .fails { fill: #e3975a }
        .paper { fill: #0d1117 }
        .line { stroke: #3d444d }
        .ours { fill: #4493f8 }
        .peer { fill: #656d76 }
        .limit { fill: #3f8f45 }
    }
"""


@dataclass(frozen=True)
class Bars:
    """A column: its heading, and a number for each row; None for no number."""

    heading: str
    values: Sequence[float | None]
    digits: int = 0
    unit: str = ""

    def text(self, value: float) -> str:
        """Return the number as it is written beside its bar."""
        return f"{value:,.{self.digits}f}{self.unit}"


def draw(title: str, note: str, rows: Sequence[tuple[str, str]], columns: Sequence[Bars]) -> str:
    """Return the chart of rows of (name, kind) and columns of bars, each column to its own scale."""
    height = HEAD + ROW * len(rows) + 12
    width = (WIDTH - LABEL - 16) / len(columns)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-label="{escape(title)}">'
        ),
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>',
        _text(16, 26, title, "title"),
        _text(16, 46, note, "note"),
        *_legend([kind for kind in LEGEND if any(kind == of for _, of in rows)]),
    ]
    for index, (name, kind) in enumerate(rows):
        parts.append(_text(LABEL - 8, _baseline(index), name, f"{kind}-name", anchor="end"))
    for number, column in enumerate(columns):
        parts += _column(column, LABEL + number * width, width - GAP, rows)
    return "\n".join([*parts, "</svg>", ""])


def _legend(kinds: Sequence[str]) -> list[str]:
    parts, left = [], WIDTH - 16 - sum(LEGEND[kind][1] for kind in kinds)
    for kind in kinds:
        words, width = LEGEND[kind]
        parts.append(f'<rect class="{kind}" x="{left}" y="16" width="11" height="11" rx="2"/>')
        parts.append(_text(left + 16, 26, words, "note"))
        left += width
    return parts


def _column(column: Bars, left: float, width: float, rows: Sequence[tuple[str, str]]) -> list[str]:
    longest = max((value for value in column.values if value is not None), default=0) or 1
    bottom = HEAD + ROW * len(rows)
    parts = [
        _text(left, HEAD - 10, column.heading, "column"),
        f'<line class="line" x1="{left:.1f}" y1="{HEAD - 3}" x2="{left:.1f}" y2="{bottom}"/>',
    ]
    for index, ((_, kind), value) in enumerate(zip(rows, column.values, strict=True)):
        if value is None:
            parts.append(_text(left + 5, _baseline(index), "fails", "fails"))
            continue
        length = max(1.0, value / longest * (width - NUMBER))
        parts.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{HEAD + index * ROW + (ROW - BAR) / 2 - 2:.1f}" '
            f'width="{length:.1f}" height="{BAR}" rx="2"/>'
        )
        parts.append(_text(left + length + 5, _baseline(index), column.text(value)))
    return parts


def _baseline(index: int) -> float:
    return HEAD + index * ROW + ROW / 2 + 2.5


def _text(x: float, y: float, words: str, name: str = "", anchor: str = "start") -> str:
    style = f' class="{name}"' if name else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}{place}>{escape(words)}</text>'
