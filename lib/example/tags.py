"""Tags: words that a person puts on tasks, made when they are first used."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Delete, Executable, Select, String, cast, column, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, insert
from sqlalchemy.orm import Session

from lib.example.columns import CALLER
from lib.example.pagination import Order
from lib.example.tables.tasks import Tag, TaskTag
from lib.example.versions import Versions, unchanged
from lib.onetrip.session.session import LAST, Options

ORDER = Order("name", Tag.name, Tag.id)


def own() -> Select[Tag]:
    """The caller's tags."""
    return select(Tag).where(Tag.owner_id == CALLER)


def create(session: Session, name: str, options: Options) -> Tag:
    """Make a tag of the caller's."""
    statement = insert(Tag).values(name=name).returning(Tag)
    return session.scalars(statement, execution_options=options).one()


def rename(session: Session, tag_id: int, name: str, versions: Versions = None) -> Tag | None:
    """Give a tag another name as the unit's last statement, on all tasks that have it; None without one."""
    where = (Tag.id == tag_id, Tag.owner_id == CALLER, *unchanged(Tag, versions))
    statement = update(Tag).where(*where).values(name=name).returning(Tag)
    return session.scalar(statement, execution_options=LAST)


def remove(session: Session, tag_id: int, versions: Versions = None) -> bool:
    """Take a tag off all tasks and delete it as the unit's last statement; whether there was one."""
    where = (Tag.id == tag_id, Tag.owner_id == CALLER, *unchanged(Tag, versions))
    statement = delete(Tag).where(*where).returning(Tag.id)
    return session.scalar(statement, execution_options=LAST) is not None


def link(pairs: Sequence[tuple[int, str]]) -> tuple[Executable, Executable]:
    """Statements that make the tags that are not there, and put them on tasks, by id and name."""
    # The first spelling of each; in one order, so that two who make the same wait in line, not in a ring.
    spelt = {name.lower(): name for _, name in reversed(pairs)}
    names = cast([spelt[key] for key in sorted(spelt)], ARRAY(String))
    make = (
        insert(Tag)
        .from_select(["name"], select(func.unnest(names).column_valued("name")))
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
            ["task_id", "tag_id"],
            select(given.c.task_id, Tag.id).join_from(
                given, Tag, (func.lower(Tag.name) == func.lower(given.c.name)) & (Tag.owner_id == CALLER)
            ),
        )
        .on_conflict_do_nothing()
    )
    return make, put


def unlink(task_id: int) -> Delete:
    """The statement that takes all tags off a task."""
    return delete(TaskTag).where(TaskTag.task_id == task_id)
