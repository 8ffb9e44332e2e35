"""Tags: words that a person puts on tasks, made when they are first used."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Delete, Executable, Select, String, cast, column, delete, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, insert

from lib.example.models import Tag, TaskTag
from lib.example.pagination import Order

ORDER = Order("name", Tag.name, Tag.id)


def of(owner_id: int) -> Select[Tag]:
    """The owner's tags."""
    return select(Tag).where(Tag.owner_id == owner_id)


def link(owner_id: int, pairs: Sequence[tuple[int, str]]) -> tuple[Executable, Executable]:
    """Statements that make the tags that are not there, and put them on tasks, by id and name."""
    # In one order, so that two who make the same tags wait for each other and not in a ring.
    names = cast(sorted({name for _, name in pairs}, key=lambda name: (name.lower(), name)), ARRAY(String))
    name = func.unnest(names).column_valued("name")
    make = (
        insert(Tag)
        .from_select(["owner_id", "name"], select(literal(owner_id, BIGINT), name))
        .on_conflict_do_nothing()
    )
    given = (
        func.unnest(
            cast([task_id for task_id, _ in pairs], ARRAY(BIGINT)),
            cast([name for _, name in pairs], ARRAY(String)),
        )
        .table_valued(column("task_id", BIGINT), column("name", String))
        .render_derived("given")
    )
    put = (
        insert(TaskTag)
        .from_select(
            ["task_id", "tag_id", "owner_id"],
            select(given.c.task_id, Tag.id, Tag.owner_id).join_from(
                given, Tag, (func.lower(Tag.name) == func.lower(given.c.name)) & (Tag.owner_id == owner_id)
            ),
        )
        .on_conflict_do_nothing()
    )
    return make, put


def unlink(task_id: int) -> Delete:
    """The statement that takes all tags off a task."""
    return delete(TaskTag).where(TaskTag.task_id == task_id)
