"""Tasks of one person: listed, counted, created, changed, completed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, Update, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from lib.example import tags
from lib.example.columns import CALLER, Priority, Status
from lib.example.pagination import Order
from lib.example.tables.tasks import TAGS, Tag, Task, TaskTag
from lib.example.versions import Versions, unchanged
from lib.onetrip.session.batch import batch
from lib.onetrip.session.session import LAST, Options

_SORTABLE = {
    "created_at": Task.created_at,
    "updated_at": Task.updated_at,
    "priority": Task.priority,
    "title": Task.title,
}
ORDERS = {
    sign + name: Order(name, column, Task.id, descending=bool(sign))
    for name, column in _SORTABLE.items()
    for sign in ("", "-")
}


def matching(
    *,
    status: Status | None = None,
    priority: Priority | None = None,
    tag: str | None = None,
    text: str | None = None,
) -> Select[Task]:
    """The caller's tasks for which all that is given holds; `text` is looked for in title and description."""
    statement = select(Task).where(Task.owner_id == CALLER)
    exact = {Task.status: status, Task.priority: priority}
    for column, value in exact.items():
        if value is not None:
            statement = statement.where(column == value)
    if tag is not None:
        tagged = select(TaskTag.task_id).join(Tag, TaskTag.tag_id == Tag.id)
        statement = statement.where(Task.id.in_(tagged.where(func.lower(Tag.name) == func.lower(tag))))
    if text is not None:
        statement = statement.where(
            or_(
                Task.title.icontains(text, autoescape=True), Task.description.icontains(text, autoescape=True)
            )
        )
    return statement


def one(task_id: int) -> Select[Task]:
    """The caller's task of this id."""
    return matching().where(Task.id == task_id)


def create(session: Session, new: Sequence[Mapping[str, Any]], options: Options = LAST) -> list[Task]:
    """Create tasks of the caller's: in one round trip, or with tags in two and a COMMIT, however many."""
    rows = [_row(values) for values in new]
    names = [values.get("tags", []) for values in new]
    tagged = any(names)
    statement = insert(Task).values(rows).returning(Task)
    found = session.scalars(statement, execution_options={} if tagged else options).all()
    created = sorted(found, key=lambda task: task.id)
    for task in created:
        set_committed_value(task, "tags", [])
    if tagged:
        pairs = [(task.id, name) for task, of_task in zip(created, names, strict=True) for name in of_task]
        *_, again = batch(session, *tags.link(pairs), _again([task.id for task in created]))
        again.all()
    return created


def change(
    session: Session, task_id: int, values: Mapping[str, Any], versions: Versions = None
) -> Task | None:
    """Change a task as the end of the unit; None if there is none. A task done twice keeps its first time."""
    changes = dict(values)
    names = changes.pop("tags", None)
    if names is not None:
        changes["version"] = Task.version + 1
    if "status" in changes:
        done = changes["status"] == Status.DONE
        changes["completed_at"] = func.coalesce(Task.completed_at, func.now()) if done else None
    where = (Task.id == task_id, Task.owner_id == CALLER, *unchanged(Task, versions))
    found = _changed(session, update(Task).where(*where).values(changes), LAST if names is None else {})
    task = next(iter(found), None)
    if task and names is not None:
        pairs = [(task_id, name) for name in names]
        *_, again = batch(session, tags.unlink(task_id), *tags.link(pairs), _again([task_id]))
        again.all()
    return task


def remove(session: Session, task_id: int, versions: Versions = None) -> bool:
    """Delete a task of the caller's as the unit's last statement; whether there was one."""
    where = (Task.id == task_id, Task.owner_id == CALLER, *unchanged(Task, versions))
    statement = delete(Task).where(*where).returning(Task.id)
    return session.scalar(statement, execution_options=LAST) is not None


def complete(session: Session, task_ids: Sequence[int]) -> Sequence[Task]:
    """Have the caller's tasks of these ids done, in one statement."""
    statement = (
        update(Task)
        .where(Task.id.in_(task_ids), Task.owner_id == CALLER)
        .values(status=Status.DONE, completed_at=func.coalesce(Task.completed_at, func.now()))
    )
    return _changed(session, statement)


def statistics(session: Session) -> dict[str, Any]:
    """The number of the caller's tasks, of each kind, in one query."""
    overdue = (Task.status != Status.DONE) & (Task.due_at < func.now())
    recent = Task.completed_at >= func.now() - func.make_interval(0, 0, 0, 7)
    counts = {
        "total": func.count(),
        "overdue": func.count().filter(overdue),
        "completed_last_7_days": func.count().filter(recent),
        **{status.value: func.count().filter(Task.status == status) for status in Status},
        **{priority.value: func.count().filter(Task.priority == priority) for priority in Priority},
    }
    statement = select(*(count.label(name) for name, count in counts.items())).where(Task.owner_id == CALLER)
    row = session.execute(statement).one()._mapping  # noqa: SLF001  (SQLAlchemy's public name for it)
    return {
        **{name: row[name] for name in ("total", "overdue", "completed_last_7_days")},
        "by_status": {status.value: row[status.value] for status in Status},
        "by_priority": {priority.value: row[priority.value] for priority in Priority},
    }


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    """A task not yet stored; the server sets when it was completed."""
    done = values.get("status") == Status.DONE
    row = {name: value for name, value in values.items() if name != "tags"}
    return {**row, "completed_at": func.now() if done else None}


def _changed(session: Session, statement: Update, options: Options | None = None) -> list[Task]:
    """The tasks that `statement` changes, with the tags that they have."""
    found = session.execute(statement.returning(Task, TAGS), execution_options=options or {}).all()
    for task, names in found:
        set_committed_value(task, "tags", names)
    return [task for task, _ in found]


def _again(task_ids: Sequence[int]) -> Select[Task]:
    """The tasks as they are now, into the objects that are there."""
    return select(Task).where(Task.id.in_(task_ids)).execution_options(populate_existing=True)
