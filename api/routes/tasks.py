"""Tasks: create, list, read, change, delete."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field, StringConstraints
from sqlalchemy import delete

from api.dependencies import ReadSessionDep, SessionDep
from api.platform_route import PlatformRoute
from api.routes.fields import MAX_BIGINT, NO_NUL, Id, Input, Instant, Number, Output, Reference, SearchText
from api.routes.pages import PageOut, PageQuery, page_of
from lib.example import tasks
from lib.example.models import Priority, Status, Task
from lib.example.page import Page
from lib.session import LAST

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=PlatformRoute)

Title = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]
Description = Annotated[str, StringConstraints(max_length=10_000, pattern=NO_NUL)]
Sort = Literal[
    "created_at", "-created_at", "updated_at", "-updated_at", "priority", "-priority", "title", "-title"
]


class TaskIn(Input):
    owner_id: Reference
    title: Title
    description: Description = ""
    status: Status = Status.TODO
    priority: Priority = Priority.MEDIUM
    due_at: Instant | None = None


class TaskChange(Input):
    title: Title = Field(default_factory=lambda: "")
    description: Description = Field(default_factory=lambda: "")
    status: Status = Field(default_factory=lambda: Status.TODO)
    priority: Priority = Field(default_factory=lambda: Priority.MEDIUM)
    due_at: Instant | None = Field(default_factory=lambda: None)


class TaskOut(Output):
    id: int
    owner_id: int
    title: str
    description: str
    status: Status
    priority: Priority
    due_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class TaskQuery(PageQuery):
    owner_id: Annotated[Number, Field(ge=1, le=MAX_BIGINT)] | None = None
    status: Status | None = None
    priority: Priority | None = None
    q: SearchText | None = Field(default=None, description="part of the title or description")
    sort: Sort = "-created_at"


@router.post("", status_code=201, response_model=TaskOut)
def create_task(task: TaskIn, session: SessionDep, response: Response) -> Task:
    """Create a task; 422 if its owner does not exist."""
    row = tasks.created(task.model_dump())
    session.add(row)
    session.flush()
    response.headers["Location"] = f"/api/v1/tasks/{row.id}"
    return row


@router.get("", response_model=PageOut[TaskOut])
def list_tasks(session: ReadSessionDep, query: Annotated[TaskQuery, Query()]) -> Page[Task]:
    """Tasks for which every filter holds, newest first unless sorted otherwise."""
    statement = tasks.matching(
        owner_id=query.owner_id, status=query.status, priority=query.priority, text=query.q
    )
    return page_of(session, statement, tasks.ORDERS[query.sort], query)


@router.get("/{task_id}", response_model=TaskOut)
def read_task(task_id: Id, session: ReadSessionDep) -> Task:
    """One task."""
    return _found(session.get(Task, task_id))


@router.patch("/{task_id}", response_model=TaskOut)
def change_task(task_id: Id, change: TaskChange, session: SessionDep) -> Task:
    """Change the fields that are sent, in one statement; `completed_at` follows the status."""
    values = change.model_dump(exclude_unset=True)
    if not values:
        return _found(session.get(Task, task_id))
    return _found(tasks.change(session, task_id, values))


@router.delete("/{task_id}", status_code=204)
def delete_task(task_id: Id, session: SessionDep) -> None:
    """Delete a task."""
    statement = delete(Task).where(Task.id == task_id).returning(Task.id)
    if session.scalar(statement, execution_options=LAST) is None:
        raise HTTPException(404, "There is no such task.")


def _found(task: Task | None) -> Task:
    if task is None:
        raise HTTPException(404, "There is no such task.")
    return task
