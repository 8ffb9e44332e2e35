"""`make migration M="add subtitle"`: a new migration, from what the models have and the schema has not.

It uses the database of `make dev`, brought to the newest migration first.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dev.database import dev_database, say, shown
from lib.onetrip.errors import SettingsError
from lib.onetrip.testing.postgres_programs import LocalPostgresError

USAGE = 'M: is missing. Say what changes: make migration M="add subtitle"'
NOTHING = (
    "The models are what the schema is: there is nothing to migrate. Change a model first, "
    'or write one by hand: make migration M="…" EMPTY=1'
)
REVISIONS = Path("lib/revisions.py")
WRITE = "import sys; from dev.migration import write; sys.exit(write(*sys.argv[1:]))"


def main(arguments: Sequence[str]) -> int:
    """Write the migration that `arguments` name; 0, 1 if there is none to write, 2 for a wrong call."""
    message = arguments[0].strip() if arguments else ""
    if not message:
        print(USAGE, file=sys.stderr)  # noqa: T201  (this is a program for a terminal)
        return 2
    try:
        with dev_database() as database:
            if not database.is_local:
                say("It is not on this machine: left as it is. Unset DATABASE_URL to use one of your own.")
                return 1
            empty = arguments[1:2] or [""]
            command = [sys.executable, "-c", WRITE, message, *empty]
            return subprocess.run(command, env=dict(database.environment), check=False).returncode  # noqa: S603  (this)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except LocalPostgresError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


def write(message: str, empty: str = "") -> int:
    """Write the migration on the database of the environment, and say what was found."""
    from alembic import command  # noqa: PLC0415  (in the process whose environment has the database)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    from dev.enum_types import with_enum_types  # noqa: PLC0415

    config = Config(toml_file="pyproject.toml")
    command.upgrade(config, "head")
    head = ScriptDirectory.from_config(config).get_current_head()
    found: list[str] = []

    def note(context: Any, _revision: object, directives: list[Any]) -> None:
        found.extend(_described(directives[0].upgrade_ops))
        if found:
            with_enum_types(context.connection, directives[0])
        elif not empty:
            directives.clear()

    made = command.revision(
        config, message, autogenerate=True, rev_id=_next(head), process_revision_directives=note
    )
    path = Path(getattr(made, "path", "") or "")
    if not path.is_file():
        say(NOTHING)
        return 1
    for line in found:
        say(f"  {line}")
    _format(path)
    _list_revisions([s.revision for s in ScriptDirectory.from_config(config).walk_revisions()][::-1])
    say(f"Wrote {shown(path)}, and its number into {REVISIONS}. Read it, then: make review, make migrate")
    return 0


def _next(head: str | None) -> str | None:
    """The number after the newest migration's; Alembic's own choice where they are not numbered."""
    if head is None:
        return "0001"
    return f"{int(head) + 1:0{len(head)}d}" if head.isdecimal() else None


def _described(operations: Any) -> Iterator[str]:
    """Each operation in words, such as `add column posts.subtitle`."""
    for operation in operations.ops:
        if hasattr(operation, "ops"):
            yield from _described(operation)
            continue
        what = re.sub(r"(?<!^)([A-Z])", r" \1", type(operation).__name__.removesuffix("Op")).lower()
        column = getattr(operation, "column", None)
        part = getattr(column, "name", None) or getattr(operation, "column_name", None)
        name = getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None)
        table = getattr(operation, "table_name", None) or getattr(operation, "source_table", None)
        yield " ".join(filter(None, [what, f"{table}.{part}" if part else name or table]))


def _format(path: Path) -> None:
    for arguments in (["check", "--fix-only", "--quiet"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, path], check=False)  # noqa: S603  (our linter)


def _list_revisions(revisions: list[str]) -> None:
    listed = ", ".join(f'"{revision}"' for revision in revisions)
    text = REVISIONS.read_text()
    REVISIONS.write_text(re.sub(r"REVISIONS = \(.*?\)", f"REVISIONS = ({listed},)", text, flags=re.DOTALL))
    _format(REVISIONS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
