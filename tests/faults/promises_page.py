"""The document of the promises under fault.

`python -m tests.faults.promises_page` writes it from what the long runs and `make coverage` left.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.faults.promises import KEPT, PROMISES, store, stored, table
from tests.onetrip.environment import PROJECT

COVERAGE = PROJECT / "build" / "coverage" / "report.json"
DOCUMENT = PROJECT / "docs" / "promises.md"


def document(rows: list[dict[str, Any]], coverage: dict[str, Any] | None) -> str:
    """The text of docs/promises.md."""
    elsewhere = [row for row in rows if row.get("pooler")]
    dates = sorted(row["at"][:10] for row in rows)
    seeds = ", ".join(sorted({str(row["seed"]) for row in rows}))
    parts = [
        "# Promises under fault",
        "",
        "Written by `make faults` from its long run, never by hand. Each fault comes from outside the",
        "application: a proxy that goes silent, resets, slices and cuts; signals; PgBouncer's console; the",
        "secret store. The application runs as it is deployed, in a process of its own; a function on",
        "Lambda from its package, in AWS's runtime client. CI runs `FAULTS=short make faults`, the same",
        "tests with fewer tries.",
        "",
        table([row for row in rows if not row.get("pooler")]),
        "",
        *(chosen(elsewhere) if elsewhere else []),
        f"Run {dates[0]} to {dates[-1]}, seed {seeds} (`FAULTS_SEED` sets it)."
        if dates[0] != dates[-1]
        else f"Run {dates[0]}, seed {seeds} (`FAULTS_SEED` sets it).",
    ]
    if coverage:
        parts += ["", "## Coverage", "", *covered(coverage)]
    return "\n".join([*parts, ""])


def chosen(rows: list[dict[str, Any]]) -> list[str]:
    """The rows that ran through another PgBouncer, in lines of the document."""
    versions = " and ".join(sorted({row["pooler"] for row in rows}))
    return [
        f"## Through PgBouncer {versions}",
        "",
        "The rows above ran through the PgBouncer of Debian 12, version 1.18, which knows no prepared",
        "statements. Of those that go through a pooler these ran through a newer one too; `PGBOUNCER=newest`",
        "before a command takes that of Debian's newest release, `PGBOUNCER=` and a path any other.",
        "",
        table(rows),
        "",
    ]


def covered(coverage: dict[str, Any]) -> list[str]:
    """The coverage that `make coverage` measured, in lines of the document."""
    return [
        f"`make coverage` of {coverage['day']}: the suite runs {coverage['percent']} % of `api/` and `lib/`,",
        "by lines and branches. Processes that the tests start are counted, but not packages in their",
        "platforms' own runtimes (`make test-platforms`), nor the runs of this page.",
    ]


def main() -> int:
    """Write the document; say what is missing, and write none, if a row was not run in its long form."""
    kept = stored(KEPT)
    missing = PROMISES.keys() - {row["name"] for row in kept.get("rows", []) if not row.get("pooler")}
    if missing:
        print(f"{DOCUMENT.name} is not written: no long run yet of {', '.join(sorted(missing))}.")
        return 1
    if COVERAGE.exists():
        report = json.loads(COVERAGE.read_text())
        percent = report["totals"]["percent_covered_display"]
        kept["coverage"] = {"day": report["meta"]["timestamp"][:10], "percent": percent}
        store(KEPT, kept)
    DOCUMENT.write_text(document(kept["rows"], kept.get("coverage")))
    print(f"Wrote {DOCUMENT.relative_to(PROJECT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
