"""Lists and changes of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session

from lib.example.models import Priority, Status, Task
from lib.example.page import Order
from lib.session import LAST

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
    owner_id: int | None = None,
    status: Status | None = None,
    priority: Priority | None = None,
    text: str | None = None,
) -> Select[Task]:
    """Tasks for which everything that is given holds; `text` is looked for in title and description."""
    statement = select(Task)
    exact = {Task.owner_id: owner_id, Task.status: status, Task.priority: priority}
    for column, value in exact.items():
        if value is not None:
            statement = statement.where(column == value)
    if text is not None:
        statement = statement.where(
            or_(
                Task.title.icontains(text, autoescape=True), Task.description.icontains(text, autoescape=True)
            )
        )
    return statement


def created(values: Mapping[str, Any]) -> Task:
    """A task not yet stored; the server sets when it was completed."""
    done = values.get("status") == Status.DONE
    return Task(**values, completed_at=func.now() if done else None)


def change(session: Session, task_id: int, values: Mapping[str, Any]) -> Task | None:
    """Change a task as the unit's last statement; None if there is none.

    A task done twice keeps its first time.
    """
    changes = dict(values)
    if "status" in changes:
        done = changes["status"] == Status.DONE
        changes["completed_at"] = func.coalesce(Task.completed_at, func.now()) if done else None
    statement = update(Task).where(Task.id == task_id).values(changes).returning(Task)
    return session.scalar(statement, execution_options=LAST)
