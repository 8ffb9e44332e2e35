"""Tasks: created, found, filtered, sorted, changed, deleted."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from lib.example.models import Priority, Status
from tests.onetrip.assertions import assert_problem

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from tests.example.conftest import Make

TASKS = "/api/v1/tasks"
ABSENT = f"{TASKS}/4711"
SORTS = [sign + name for name in ("created_at", "updated_at", "priority", "title") for sign in ("", "-")]


def _titles(client: TestClient, **query: str | int) -> list[str]:
    response = client.get(TASKS, params=query)
    assert response.status_code == 200, response.text
    return [task["title"] for task in response.json()["items"]]


@pytest.mark.slow
def test_a_created_task_is_found_at_its_location(client: TestClient, ada: dict[str, Any]) -> None:
    """A 201 names where the new task is, and what is there is what was answered."""
    response = client.post(TASKS, json={"title": "Write"})
    assert response.status_code == 201
    task = response.json()
    assert response.headers["location"] == f"{TASKS}/{task['id']}"
    found = client.get(response.headers["location"])
    assert (found.status_code, found.json()) == (200, task)
    assert task["updated_at"] == task["created_at"]
    assert {**task, "id": 0, "created_at": "", "updated_at": ""} == {
        "id": 0,
        "owner_id": ada["id"],
        "title": "Write",
        "description": "",
        "status": "todo",
        "priority": "medium",
        "due_at": None,
        "completed_at": None,
        "tags": [],
        "created_at": "",
        "updated_at": "",
    }


def test_every_field_of_a_new_task_is_kept(client: TestClient, make_task: Make) -> None:
    """Text comes back as it was sent, and a moment as the same moment in UTC."""
    fields = {
        "title": " 10 % \\ 'é' \N{GRINNING FACE} ",
        "description": '"; DROP TABLE tasks; --\t\n',
        "status": "in_progress",
        "priority": "urgent",
    }
    task = make_task(**fields, due_at="2030-01-31T23:30:00.123456-02:00")
    assert task.items() >= {**fields, "due_at": "2030-02-01T01:30:00.123456Z"}.items()
    assert client.get(f"{TASKS}/{task['id']}").json() == task


@pytest.mark.slow
def test_every_combination_of_filters_lists_what_fits(client: TestClient, make_task: Make) -> None:
    """A task is listed if tag, status, priority and text all fit, and the total counts exactly those."""
    tasks = [
        make_task(title=text, tags=tags, status=status, priority=priority)
        for tags, status, priority, text in product(
            (["Home"], ["home", "work"], []), ("todo", "done"), ("low", "high"), ("Sea", "Air")
        )
    ]
    for tag, status, priority, text in product(
        ("HOME", "work", "wor", None),
        ("todo", "done", "in_progress", None),
        ("low", "urgent", None),
        ("sea", None),
    ):
        given = {"tag": tag, "status": status, "priority": priority, "q": text}
        exact = {name: given[name] for name in ("status", "priority") if given[name]}
        wanted = [
            task
            for task in reversed(tasks)
            if task.items() >= exact.items()
            and (text is None or task["title"] == "Sea")
            and (tag is None or tag.lower() in [name.lower() for name in task["tags"]])
        ]
        page = client.get(
            TASKS, params={"limit": 100, **{name: value for name, value in given.items() if value}}
        ).json()
        assert page == {"items": wanted, "total": len(wanted), "next_cursor": None}


SEARCHES = {
    "SHIP": ["ship it"],
    "hidden": ["described"],
    "%": ["100%"],
    "_": ["a_b"],
    "\\": ["back\\slash"],
    "/": ["and/or"],
    "\\%": [],
    "s%t": [],
    "a_c": [],
    "'": ["don't"],
    "\N{GRINNING FACE}": ["smile \N{GRINNING FACE}"],
    "Ä": ["Ärger"],
}


def test_search_takes_every_character_as_itself(client: TestClient, make_task: Make) -> None:
    r"""`q` finds a part of title or description in any case; `%`, `_`, `\` and `/` stand for themselves."""
    for titles in SEARCHES.values():
        for title in titles:
            make_task(title, description="hidden in here" if title == "described" else "")
    assert {text: _titles(client, q=text) for text in SEARCHES} == SEARCHES


def _sort_key(task: dict[str, Any], name: str) -> tuple[Any, int]:
    value = list(Priority).index(Priority(task[name])) if name == "priority" else task[name]
    return value, task["id"]


@pytest.mark.parametrize("sort", SORTS)
def test_tasks_are_sorted_as_asked(client: TestClient, make_task: Make, sort: str) -> None:
    """Every order holds, priority by its weight rather than its name, and equals go by id."""
    texts = ("b", "a", "C", "a", "é")
    tasks = [make_task(text, priority=priority) for priority, text in product(Priority, texts)]
    for task in tasks[::3]:
        task.update(client.patch(f"{TASKS}/{task['id']}", json={"description": "changed"}).json())
    wanted = sorted(tasks, key=lambda task: _sort_key(task, sort.lstrip("-")), reverse=sort.startswith("-"))
    assert client.get(TASKS, params={"sort": sort, "limit": 100}).json()["items"] == wanted


def test_the_newest_task_is_first_unless_sorted_otherwise(client: TestClient, make_task: Make) -> None:
    """Without `sort` the list begins with what was created last."""
    for title in "abc":
        make_task(title)
    assert _titles(client) == ["c", "b", "a"]


def test_a_new_task_that_is_done_was_completed_now(make_task: Make) -> None:
    """The server says when: at the moment of creation."""
    task = make_task(status="done")
    assert task["completed_at"] == task["created_at"]


def test_the_server_keeps_when_a_task_was_completed(client: TestClient, make_task: Make) -> None:
    """Set when done, kept when done again or changed otherwise, cleared when reopened, then set anew."""
    path = f"{TASKS}/{make_task()['id']}"

    def change(**fields: str) -> dict[str, Any]:
        task: dict[str, Any] = client.patch(path, json=fields).json()
        assert client.get(path).json() == task
        return task

    assert change(status="in_progress")["completed_at"] is None
    done = change(status="done")
    assert done["completed_at"] == done["updated_at"] > done["created_at"]
    assert change(status="done") == done
    for fields in ({"title": "Rewrite"}, {"status": "done", "priority": "high"}):
        again = change(**fields)
        assert again["completed_at"] == done["completed_at"] < again["updated_at"]
    assert change(status="todo")["completed_at"] is None
    assert change(status="done")["completed_at"] > done["completed_at"]


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Rewrite"},
        {"description": "at length"},
        {"status": "in_progress"},
        {"priority": "urgent"},
        {"due_at": "2031-01-01T00:00:00Z"},
        {"due_at": None},
        {"title": "Rewrite", "description": "", "priority": "low"},
    ],
    ids="+".join,
)
def test_a_change_touches_only_what_was_sent(
    client: TestClient, make_task: Make, change: dict[str, object]
) -> None:
    """Fields that were not sent stay, a null empties what may be empty, and no other task is touched."""
    other, task = make_task("other"), make_task(description="short", due_at="2030-01-01T00:00:00Z")
    path = f"{TASKS}/{task['id']}"
    response = client.patch(path, json=change)
    changed = response.json()
    assert (response.status_code, changed) == (200, {**task, **change, "updated_at": changed["updated_at"]})
    assert changed["updated_at"] > task["updated_at"]
    assert client.get(path).json() == changed
    assert client.get(f"{TASKS}/{other['id']}").json() == other


def test_an_empty_change_changes_nothing(client: TestClient, make_task: Make) -> None:
    """PATCH with `{}` answers with the task as it is, `updated_at` included."""
    task = make_task(status="done")
    response = client.patch(f"{TASKS}/{task['id']}", json={})
    assert (response.status_code, response.json()) == (200, task)


@pytest.mark.parametrize("field", ["title", "description", "status", "priority", "tags"])
def test_null_for_a_required_field_is_422(client: TestClient, make_task: Make, field: str) -> None:
    """Mandatory members of a task cannot be set to null, on creation or later."""
    task = make_task()
    created = {"title": "Write", field: None}
    for response in (
        client.patch(f"{TASKS}/{task['id']}", json={field: None}),
        client.post(TASKS, json=created),
    ):
        problem = assert_problem(response, 422, "invalid-request")
        assert [part["loc"] for part in problem["errors"]] == [["body", field]]
    assert client.get(TASKS).json()["items"] == [task]


@pytest.mark.parametrize("field", ["id", "owner_id", "completed_at", "created_at", "updated_at"])
def test_a_field_the_server_keeps_is_refused(client: TestClient, make_task: Make, field: str) -> None:
    """Members that the server sets, such as dates, are refused, not ignored."""
    task = make_task()
    fields = {"title": "x", field: task[field] or "2020-01-01T00:00:00Z"}
    assert_problem(client.post(TASKS, json=fields), 422, "invalid-request")
    assert_problem(client.patch(f"{TASKS}/{task['id']}", json={field: fields[field]}), 422, "invalid-request")
    assert client.get(TASKS).json()["items"] == [task]


@pytest.mark.parametrize(
    "due_at",
    [
        "0001-01-01T00:00:00+14:00",
        "0001-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "2030-01-01T00:00:00",
        "2030-01-01",
        "1893456000",
        1893456000,
        "infinity",
    ],
)
def test_a_moment_that_cannot_be_read_back_is_never_stored(
    client: TestClient, make_task: Make, due_at: object
) -> None:
    """A year beyond what Python reads, or no zone, is refused: it would break the list for everyone."""
    task = make_task()
    fields = {"title": "x", "due_at": due_at}
    assert_problem(client.post(TASKS, json=fields), 422, "invalid-request")
    assert_problem(client.patch(f"{TASKS}/{task['id']}", json={"due_at": due_at}), 422, "invalid-request")
    assert client.get(TASKS).json()["items"] == [task]


@pytest.mark.parametrize("due_at", ["0002-01-01T00:00:00Z", "9998-12-31T00:00:00Z"])
def test_the_first_and_last_moment_can_be_read_back(client: TestClient, make_task: Make, due_at: str) -> None:
    """The bounds themselves are stored and listed."""
    task = make_task(due_at=due_at)
    assert task["due_at"] == due_at
    assert client.get(TASKS).json()["items"] == [task]


def test_the_longest_texts_are_taken(client: TestClient, make_task: Make) -> None:
    """The bounds themselves are allowed, counted in characters rather than bytes."""
    task = make_task("\N{GRINNING FACE}" * 200, description="\N{GRINNING FACE}" * 10_000)
    assert client.get(f"{TASKS}/{task['id']}").json() == task


@pytest.mark.parametrize("status", list(Status))
def test_a_deleted_task_is_gone(client: TestClient, make_task: Make, status: Status) -> None:
    """The first DELETE is 204 without a body, every later request 404, and others stay."""
    kept, task = make_task("kept"), make_task(status=status)
    path = f"{TASKS}/{task['id']}"
    response = client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert_problem(client.delete(path), 404)
    assert_problem(client.get(path), 404)
    assert client.get(TASKS).json()["items"] == [kept]


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("change", [{"status": "done"}, {}], ids=["a change", "an empty change"])
def test_an_absent_task_is_404(client: TestClient, change: dict[str, str]) -> None:
    """Nothing is found, changed or deleted that is not there."""
    for response in (client.get(ABSENT), client.patch(ABSENT, json=change), client.delete(ABSENT)):
        assert_problem(response, 404)
