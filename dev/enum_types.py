"""Types of PostgreSQL's that a migration has to create and drop, which Alembic leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alembic.operations import ops
from sqlalchemy import Connection, Enum, text


def with_enum_types(connection: Connection, script: Any) -> None:
    """Add to a migration the types of its new columns: created ahead, and dropped by its downgrade.

    A table that is created makes its types itself; nothing drops them.
    """
    created = [(enum, False) for enum in _enums(script.upgrade_ops, ops.AddColumnOp)]
    created += [(enum, True) for enum in _enums(script.upgrade_ops, ops.CreateTableOp)]
    seen: set[str] = set()
    for enum, by_its_table in created:
        name = enum.name
        if not enum.native_enum or name is None or name in seen or _exists(connection, name):
            continue
        seen.add(name)
        if not by_its_table:
            labels = ", ".join("'" + label.replace("'", "''") + "'" for label in enum.enums)
            script.upgrade_ops.ops.insert(0, ops.ExecuteSQLOp(f"CREATE TYPE {name} AS ENUM ({labels})"))
        script.downgrade_ops.ops.append(ops.ExecuteSQLOp(f"DROP TYPE {name}"))


def _enums(container: Any, kind: type) -> Iterator[Enum]:
    for operation in container.ops:
        if hasattr(operation, "ops"):
            yield from _enums(operation, kind)
        elif isinstance(operation, kind):
            columns = getattr(operation, "columns", None) or [getattr(operation, "column", None)]
            yield from (column.type for column in columns if isinstance(getattr(column, "type", None), Enum))


def _exists(connection: Connection, name: str) -> bool:
    return bool(connection.scalar(text("SELECT to_regtype(:name)"), {"name": name}))
