"""`make review`: the harm that the newest migration would do to running requests, the old code's included.

It reads the SQL that the migration would send, without a database; of others by `make review ARGS=0001:0003`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TABLE = r"(?:ONLY )?(?P<table>[\w.\"]+)"
_ALTER = rf"ALTER TABLE (?:IF EXISTS )?{_TABLE} "
_ADD = rf"{_ALTER}ADD (?:COLUMN )?(?:IF NOT EXISTS )?"
_COLUMN = r"(?P<column>[\w\"]+)"
# Defaults that differ by row: PostgreSQL has to write each row anew.
_VOLATILE = r"random\(|clock_timestamp\(|timeofday\(|gen_random_uuid\(|uuid_generate|nextval\("
_REWRITES = "writes the whole table anew while nothing can read it"
_OLD_CODE = "the old code, which runs until the new one is deployed, still uses it"
_SCANS = "reads the whole table while nothing can be written to it"
_SHOWN = 80
_EXPAND = "Deploy code that does without it first, and drop it in a later deployment."


@dataclass(frozen=True)
class Rule:
    """A statement that hurts running requests: how it looks, what it does, what to do instead."""

    pattern: str
    harm: str
    remedy: str
    # A table that the same migration creates has no rows and no requests yet.
    spares_new_tables: bool = True


RULES = (
    Rule(
        rf"{_ADD}{_COLUMN} (?!.*\b(?:DEFAULT|GENERATED)\b).*\bNOT NULL\b",
        "fails on a table with rows, and the old code's inserts fail",
        "Add it nullable or with a constant default.",
    ),
    Rule(
        rf"{_ADD}{_COLUMN} .*\bDEFAULT\b.*(?:{_VOLATILE})",
        _REWRITES,
        "Add it without the default, fill it in batches, then set the default.",
    ),
    Rule(
        rf"{_ADD}{_COLUMN} (?:(?:BIG|SMALL)?SERIAL\b|.*\bGENERATED\b)",
        _REWRITES,
        "Add a plain column, fill it in batches, then its default or a trigger.",
    ),
    Rule(
        rf"{_ALTER}ALTER (?:COLUMN )?{_COLUMN} SET NOT NULL",
        _SCANS,
        "Add CHECK (… IS NOT NULL) NOT VALID, validate it in a later migration, then set it.",
    ),
    Rule(
        rf"{_ALTER}ALTER (?:COLUMN )?{_COLUMN} (?:SET DATA )?TYPE (?!TEXT\b|VARCHAR\b(?! ?\())",
        _REWRITES,
        "Add a column of the new type, write both, fill it in batches, then switch.",
    ),
    Rule(
        rf"{_ALTER}ALTER (?:COLUMN )?{_COLUMN} DROP DEFAULT",
        "the old code's inserts leave the column out",
        "Deploy code that always gives a value first.",
    ),
    Rule(rf"{_ALTER}DROP (?!CONSTRAINT)(?:COLUMN )?(?:IF EXISTS )?{_COLUMN}", _OLD_CODE, _EXPAND),
    Rule(
        rf"{_ALTER}RENAME (?:COLUMN )?(?!TO\b|CONSTRAINT\b){_COLUMN} TO",
        _OLD_CODE,
        "Add a column, write both, fill it, and drop the old one in a later deployment.",
    ),
    Rule(rf"{_ALTER}RENAME TO", _OLD_CODE, "Make a view with the old name in the same migration."),
    Rule(rf"DROP TABLE (?:IF EXISTS )?{_TABLE}", _OLD_CODE, _EXPAND),
    Rule(
        rf"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:IF NOT EXISTS )?[\w\"]+ ON {_TABLE}",
        _SCANS,
        "In a migration of its own: with op.get_context().autocommit_block(), postgresql_concurrently=True.",
    ),
    Rule(
        r"DROP INDEX (?!CONCURRENTLY)",
        "waits for all who use the table, and all who come wait behind it",
        "In a migration of its own: with op.get_context().autocommit_block(), postgresql_concurrently=True.",
    ),
    Rule(
        rf"{_ALTER}ADD (?:CONSTRAINT [\w\"]+ )?FOREIGN KEY\b(?!.*\bNOT VALID\b)",
        f"{_SCANS}, nor to the one that it refers to",
        "Add it with postgresql_not_valid=True, and validate it in a later migration.",
    ),
    Rule(
        rf"{_ALTER}ADD (?:CONSTRAINT [\w\"]+ )?CHECK\b(?!.*\bNOT VALID\b)",
        _SCANS,
        "Add it with NOT VALID, and validate it in a later migration.",
    ),
    Rule(
        rf"{_ALTER}ADD (?:CONSTRAINT [\w\"]+ )?(?:UNIQUE|PRIMARY KEY)(?! USING INDEX)",
        _SCANS,
        "Build a unique index concurrently, then ADD CONSTRAINT … USING INDEX.",
    ),
    Rule(
        rf"{_ALTER}ADD (?:CONSTRAINT [\w\"]+ )?EXCLUDE",
        _SCANS,
        "There is no gentle way: choose a quiet hour, and a lock_timeout.",
    ),
    Rule(
        rf"(?:UPDATE|DELETE FROM) {_TABLE}",
        "holds the locks of its rows, and every lock before it, until the migration ends",
        "Change rows in batches, in a script or a migration of its own that commits in between.",
    ),
    Rule(
        rf"(?:LOCK(?: TABLE)?|TRUNCATE(?: TABLE)?|CLUSTER|VACUUM FULL) {_TABLE}",
        "keeps everybody out of the table",
        "Do without it, or in a quiet hour.",
    ),
    Rule(
        r"REINDEX (?!.*CONCURRENTLY)",
        "keeps everybody out who would write, and who would use the index",
        "REINDEX … CONCURRENTLY, in an autocommit_block.",
    ),
    Rule(rf"{_ALTER}SET (?:LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)", _REWRITES, "Choose a quiet hour."),
    Rule(r"ALTER TYPE [\w.\"]+ RENAME VALUE", _OLD_CODE, "Add a value, and leave the old one."),
    Rule(r"DROP TYPE ", _OLD_CODE, _EXPAND, spares_new_tables=False),
    Rule(
        r"SET (?:LOCAL |SESSION )?(?:lock_timeout|statement_timeout)\b",
        "waits for a lock as long as it takes, and all who come wait behind it",
        "Leave the limits: a migration that cannot get its lock in 5 s gives up, and can be tried again.",
    ),
)


def findings(sql: str) -> Iterator[str]:
    """A line for each statement of a migration's SQL that hurts running requests."""
    statements = _statements(sql)
    new = {_name(made[1]) for each in statements if (made := _made(each))}
    for statement in statements:
        for rule in RULES:
            found = re.match(rule.pattern, statement, re.IGNORECASE)
            if found and not (rule.spares_new_tables and _tables(found) & new):
                yield f"{_shown(statement)}: {rule.harm}. {rule.remedy}"
                break
    yield from _misplaced(statements)


def _misplaced(statements: Sequence[str]) -> Iterator[str]:
    """Statements that are right alone, and wrong beside others of the same migration."""
    concurrent = [each for each in statements if re.search(r"\bCONCURRENTLY\b", each, re.IGNORECASE)]
    others = [each for each in statements if each not in concurrent and not _is_bookkeeping(each)]
    if any(each in concurrent for each in _in_transactions(statements)):
        yield f"{_shown(concurrent[0])}: cannot run in a transaction. Put it into an autocommit_block."
    if concurrent and others:
        yield (
            f"{_shown(concurrent[0])}: if it fails, the migration is half-made, and no later run mends it. "
            "Keep it in a migration of its own."
        )
    added = {name for each in statements for name in re.findall(r"ADD CONSTRAINT (\S+) .*NOT VALID", each)}
    for statement in statements:
        validated = re.search(r"VALIDATE CONSTRAINT (\S+)", statement, re.IGNORECASE)
        if validated and validated[1] in added:
            yield f"{_shown(statement)}: {_SCANS}: its ADD holds the lock. Validate in a later migration."


def _in_transactions(statements: Sequence[str]) -> Iterator[str]:
    within = False
    for statement in statements:
        if within:
            yield statement
        within = statement == "BEGIN" or (within and statement != "COMMIT")


def _statements(sql: str) -> list[str]:
    """The statements, each on one line, without comments and without the bodies of functions."""
    bare = re.sub(r"--[^\n]*", "", re.sub(r"\$(\w*)\$.*?\$\1\$", "''", sql, flags=re.DOTALL))
    return [" ".join(each.split()) for each in bare.split(";") if each.strip()]


def _made(statement: str) -> re.Match[str] | None:
    return re.match(r"CREATE TABLE (?:IF NOT EXISTS )?([\w.\"]+)", statement, re.IGNORECASE)


def _tables(found: re.Match[str]) -> set[str]:
    table = found.groupdict().get("table")
    return {_name(table)} if table else set()


def _name(table: str) -> str:
    return table.replace('"', "").rpartition(".")[2]


def _is_bookkeeping(statement: str) -> bool:
    return statement in {"BEGIN", "COMMIT"} or "alembic_version" in statement


def _shown(statement: str) -> str:
    return statement if len(statement) <= _SHOWN else f"{statement[: _SHOWN - 1]}…"


def sql_of(revisions: str) -> str:
    """The SQL that Alembic would send for `from:to`."""
    command = [sys.executable, "-m", "alembic", "upgrade", "--sql", revisions]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  (ours)


def main(arguments: Sequence[str]) -> int:
    """Print what is found; 1 if there is anything."""
    from lib.revisions import REVISIONS  # noqa: PLC0415  (as they are now)

    before = REVISIONS[-2] if len(REVISIONS) > 1 else "base"
    found = list(
        findings(sql_of(arguments[0] if arguments and arguments[0] else f"{before}:{REVISIONS[-1]}"))
    )
    for line in found or ["Nothing that hurts running requests was found"]:
        print(line)  # noqa: T201  (this is a program for a terminal)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
