"""Tasks: create, list, read, change, complete, delete; only ever one's own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field, StringConstraints
from sqlalchemy import delete

from api.caller import CallerDep, CallerReadSessionDep, CallerSessionDep
from api.routes.pagination import PageOut, PageQuery, page_of
from api.routes.types import NO_NUL, Id, Input, Instant, Name, Output, Reference, SearchText, Title
from lib.example import tasks
from lib.example.models import Priority, Status, Task
from lib.example.pagination import Page
from lib.onetrip.fastapi.problem_details import problems
from lib.onetrip.session.session import LAST

router = APIRouter(prefix="/tasks", tags=["tasks"], responses=problems(401, 422, 503, 504))

MAX_AT_ONCE = 100
Description = Annotated[str, StringConstraints(max_length=10_000, pattern=NO_NUL)]
Tags = Annotated[list[Name], Field(max_length=20, examples=[["home"]])]
Sort = Literal[
    "created_at", "-created_at", "updated_at", "-updated_at", "priority", "-priority", "title", "-title"
]


class TaskIn(Input):
    title: Title
    description: Description = ""
    status: Status = Status.TODO
    priority: Priority = Priority.MEDIUM
    due_at: Instant | None = None
    tags: Tags = Field(default=[])


class TaskChange(Input):
    title: Title = Field(default_factory=lambda: "")
    description: Description = Field(default_factory=lambda: "")
    status: Status = Field(default_factory=lambda: Status.TODO)
    priority: Priority = Field(default_factory=lambda: Priority.MEDIUM)
    due_at: Instant | None = Field(default_factory=lambda: None)
    tags: Tags = Field(default_factory=list)


class TasksIn(Input):
    tasks: Annotated[list[TaskIn], Field(min_length=1, max_length=MAX_AT_ONCE)]


class TaskIds(Input):
    ids: Annotated[list[Reference], Field(min_length=1, max_length=MAX_AT_ONCE, examples=[[1]])]


class TaskOut(Output):
    id: int
    owner_id: int
    title: str
    description: str
    status: Status
    priority: Priority
    tags: list[str]
    due_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class TasksOut(Output):
    items: list[TaskOut]


class Statistics(Output):
    total: int
    overdue: int
    completed_last_7_days: int
    by_status: dict[Status, int]
    by_priority: dict[Priority, int]


class TaskQuery(PageQuery):
    status: Status | None = None
    priority: Priority | None = None
    tag: SearchText | None = Field(default=None, description="the name of a tag, in any case")
    q: SearchText | None = Field(default=None, description="part of the title or description")
    sort: Sort = "-created_at"


@router.post("", status_code=201, response_model=TaskOut, responses=problems(413))
def create_task(task: TaskIn, session: CallerSessionDep, caller: CallerDep, response: Response) -> Task:
    """Create a task; tags that are not there yet are made."""
    (row,) = tasks.create(session, caller.id, [task.model_dump()])
    response.headers["Location"] = f"/api/v1/tasks/{row.id}"
    return row


@router.get("", response_model=PageOut[TaskOut])
def list_tasks(
    session: CallerReadSessionDep, caller: CallerDep, query: Annotated[TaskQuery, Query()]
) -> Page[Task]:
    """Tasks for which every filter holds, newest first unless sorted otherwise."""
    statement = tasks.matching(
        caller.id, status=query.status, priority=query.priority, tag=query.tag, text=query.q
    )
    return page_of(session, statement, tasks.ORDERS[query.sort], query)


@router.post("/bulk", status_code=201, response_model=TasksOut, responses=problems(413))
def create_tasks(new: TasksIn, session: CallerSessionDep, caller: CallerDep) -> dict[str, list[Task]]:
    """Create up to a hundred tasks, all or none, in as many round trips as one takes."""
    return {"items": tasks.create(session, caller.id, [task.model_dump() for task in new.tasks])}


@router.post("/complete", response_model=TasksOut, responses=problems(404, 413))
def complete_tasks(chosen: TaskIds, session: CallerSessionDep, caller: CallerDep) -> dict[str, list[Task]]:
    """Have up to a hundred tasks done, all or none, in one statement; 404 if one of them is not there."""
    found = {task.id: task for task in tasks.complete(session, caller.id, chosen.ids)}
    return {"items": [_found(found.get(task_id)) for task_id in dict.fromkeys(chosen.ids)]}


@router.get("/statistics", response_model=Statistics)
def read_statistics(session: CallerReadSessionDep, caller: CallerDep) -> dict[str, Any]:
    """How many tasks there are, of each status and priority, in one query."""
    return tasks.statistics(session, caller.id)


@router.get("/{task_id:row}", response_model=TaskOut, responses=problems(404))
def read_task(task_id: Id, session: CallerReadSessionDep, caller: CallerDep) -> Task:
    """One task."""
    return _found(session.scalar(tasks.one(caller.id, task_id)))


@router.patch("/{task_id:row}", response_model=TaskOut, responses=problems(404, 413))
def change_task(task_id: Id, change: TaskChange, session: CallerSessionDep, caller: CallerDep) -> Task:
    """Change the fields that are sent; `completed_at` follows the status, and `tags` replaces all of them."""
    values = change.model_dump(exclude_unset=True)
    if not values:
        return _found(session.scalar(tasks.one(caller.id, task_id)))
    return _found(tasks.change(session, caller.id, task_id, values))


@router.delete("/{task_id:row}", status_code=204, responses=problems(404))
def delete_task(task_id: Id, session: CallerSessionDep, caller: CallerDep) -> None:
    """Delete a task."""
    statement = delete(Task).where(Task.id == task_id, Task.owner_id == caller.id).returning(Task.id)
    if session.scalar(statement, execution_options=LAST) is None:
        raise HTTPException(404, "There is no such task.")


def _found(task: Task | None) -> Task:
    if task is None:
        raise HTTPException(404, "There is no such task.")
    return task
