"""Tasks: create, list, read, change, complete, delete; only ever one's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, get_args

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field, StringConstraints

from api.caller import CallerReadSessionDep, CallerSessionDep
from api.routes.idempotency import OnceDep
from api.routes.pagination import LinksDep, PageOut, PageQuery, page_of
from api.routes.route import Route
from api.routes.types import LINES, Id, Input, Instant, Moment, Name, Output, Reference, SearchText, Title
from api.routes.versions import CONDITIONAL, VersionsDep, require_unchanged, tagged
from lib.example import tasks
from lib.example.columns import Priority, Status
from lib.example.pagination import Page
from lib.example.tables.tasks import Task
from lib.onetrip.fastapi.problem_details import problems

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=Route, responses=problems(401, 422, 503, 504))

MAX_AT_ONCE = 100
Description = Annotated[str, StringConstraints(max_length=10_000), *LINES]
Tags = Annotated[list[Name], Field(max_length=20, examples=[["home"]])]
_Sort = Literal[
    "created_at", "-created_at", "updated_at", "-updated_at", "priority", "-priority", "title", "-title"
]
# For generated clients: a minus is no part of a name.
_NAMES = [f"{sort[1:]}_DESCENDING".upper() if sort[0] == "-" else sort.upper() for sort in get_args(_Sort)]
Sort = Annotated[_Sort, Field(json_schema_extra={"x-enum-varnames": _NAMES})]


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
    due_at: Moment | None
    completed_at: Moment | None
    created_at: Moment
    updated_at: Moment


class TasksOut(Output):
    items: list[TaskOut]


class Statistics(Output):
    total: int
    overdue: int
    completed_last_7_days: int
    by_status: dict[Status, int]
    by_priority: dict[Priority, int]


class _Items(NamedTuple):
    """The attributes from which `TasksOut` is read."""

    items: list[Task]


class TaskQuery(PageQuery):
    status: Status | None = None
    priority: Priority | None = None
    tag: SearchText | None = Field(default=None, description="the name of a tag, in any case")
    q: SearchText | None = Field(default=None, description="part of the title or description")
    sort: Sort = "-created_at"


@router.post("", status_code=201, response_model=TaskOut, responses=problems(400, 413, 415))
def create_task(task: TaskIn, session: CallerSessionDep, once: OnceDep) -> Any:
    """Create a task; tags that are not there yet are made."""
    return once(session, task, TaskOut, lambda: tasks.create(session, [task.model_dump()], once.last)[0])


@router.get("", response_model=PageOut[TaskOut])
def list_tasks(
    session: CallerReadSessionDep, query: Annotated[TaskQuery, Query()], links: LinksDep
) -> Page[Task]:
    """Tasks for which every filter holds, newest first unless sorted otherwise."""
    statement = tasks.matching(status=query.status, priority=query.priority, tag=query.tag, text=query.q)
    return page_of(session, statement, tasks.ORDERS[query.sort], query, links)


@router.post("/bulk", status_code=201, response_model=TasksOut, responses=problems(400, 413, 415))
def create_tasks(new: TasksIn, session: CallerSessionDep, once: OnceDep) -> Any:
    """Create up to a hundred tasks, all or none, in as many round trips as one takes."""
    values = [task.model_dump() for task in new.tasks]
    return once(session, new, TasksOut, lambda: _Items(tasks.create(session, values, once.last)))


@router.post("/complete", response_model=TasksOut, responses=problems(404, 413, 415))
def complete_tasks(chosen: TaskIds, session: CallerSessionDep) -> dict[str, list[Task]]:
    """Have up to a hundred tasks done, all or none, in one statement; 404 if one of them is not there."""
    found = {task.id: task for task in tasks.complete(session, chosen.ids)}
    return {"items": [_found(found.get(task_id)) for task_id in dict.fromkeys(chosen.ids)]}


@router.get("/statistics", response_model=Statistics)
def read_statistics(session: CallerReadSessionDep) -> dict[str, Any]:
    """The number of tasks, of each status and priority, in one query."""
    return tasks.statistics(session)


@router.get("/{task_id:row}", response_model=TaskOut, responses=problems(404))
def read_task(task_id: Id, session: CallerReadSessionDep, response: Response) -> Task:
    """One task."""
    return tagged(response, _found(session.scalar(tasks.one(task_id))))


@router.patch("/{task_id:row}", response_model=TaskOut, responses=CONDITIONAL | problems(404, 413, 415))
def change_task(
    task_id: Id, change: TaskChange, session: CallerSessionDep, versions: VersionsDep, response: Response
) -> Task:
    """Change the fields that are sent; `completed_at` follows the status, and `tags` replaces all of them."""
    values = change.model_dump(exclude_unset=True) or {"title": Task.title}
    task = tasks.change(session, task_id, values, versions)
    if task is None:
        require_unchanged(session, versions, tasks.one(task_id))
    return tagged(response, _found(task))


@router.delete(
    "/{task_id:row}", status_code=204, response_class=Response, responses=CONDITIONAL | problems(404)
)
def delete_task(task_id: Id, session: CallerSessionDep, versions: VersionsDep) -> None:
    """Delete a task."""
    if not tasks.remove(session, task_id, versions):
        require_unchanged(session, versions, tasks.one(task_id))
        _found(None)


def _found(task: Task | None) -> Task:
    if task is None:
        raise HTTPException(404, "There is no such task.")
    return task
