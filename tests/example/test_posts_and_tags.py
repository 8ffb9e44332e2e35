"""Posts with their authors; tags, and many tasks at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import environment_with
from tests.example.conftest import AsUser, Make
from tests.onetrip.assertions import assert_problem
from tests.onetrip.environment import PROJECT

POSTS, TAGS, TASKS = "/api/v1/posts", "/api/v1/tags", "/api/v1/tasks"


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that are executed within the block."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


def _post(client: TestClient, title: str) -> dict[str, Any]:
    response = client.post(POSTS, json={"title": title, "content": "x"})
    assert response.status_code == 201, response.text
    post: dict[str, Any] = response.json()
    assert client.get(response.headers["location"]).json() == post
    return post


def test_a_post_has_its_author_and_the_newest_is_first(client: TestClient, ada: dict[str, Any]) -> None:
    """Written, listed, changed, deleted; the author is named, and nothing of them that is not public."""
    posts = [_post(client, title) for title in "abc"]
    assert posts[0]["author"] == {"id": ada["id"], "username": "ada"}
    assert client.get(POSTS).json() == {"items": posts[::-1], "total": 3, "next_cursor": None}
    path = f"{POSTS}/{posts[0]['id']}"
    changed = client.patch(path, json={"title": "z"}).json()
    assert changed == {**posts[0], "title": "z", "updated_at": changed["updated_at"]}
    assert client.get(path).json() == client.patch(path, json={}).json() == changed
    assert client.delete(path).status_code == 204
    assert_problem(client.delete(path), 404)


def test_many_authors_come_in_one_query(
    make_user: Make, as_user: AsUser, ada: dict[str, Any], database: Database
) -> None:
    """A moderator reads any number of posts of any number of users by one statement."""
    for number in range(3):
        writer = as_user(make_user(f"writer{number}"))
        for title in "ab":
            _post(writer, title)
    moderator = as_user(make_user("mod", role="moderator"))
    for path, count in ((POSTS, 6), (f"{POSTS}?author_id={ada['id'] + 1}", 2), (f"{POSTS}?limit=2", 2)):
        with counted(database) as statements:
            items = moderator.get(path).json()["items"]
        assert (len(items), len(statements)) == (count, 1)
        assert {item["author"]["username"][:6] for item in items} == {"writer"}


def test_a_moderator_deletes_what_they_may_not_change(
    client: TestClient, ada: dict[str, Any], make_user: Make, as_user: AsUser
) -> None:
    """Words are not put into anyone's mouth: 403; what must go, goes."""
    path = f"{POSTS}/{_post(client, 'a')['id']}"
    moderator = as_user(make_user("mod", role="moderator"))
    assert_problem(moderator.patch(path, json={"title": "b"}), 403)
    assert client.get(path).json()["title"] == "a"
    assert client.get(path).json()["author"]["id"] == ada["id"]
    assert moderator.delete(path).status_code == 204


def test_tags_are_made_by_use_and_are_one_however_spelt(client: TestClient, make_task: Make) -> None:
    """A tag keeps its first spelling; tasks name theirs in order, and a rename shows on all of them."""
    assert make_task(tags=["Work", "home"])["tags"] == ["home", "Work"]
    assert make_task(tags=["HOME", "Home"])["tags"] == ["home"]
    task = make_task(tags=["WORK"])
    assert task["tags"] == ["Work"]
    tags = client.get(TAGS).json()["items"]
    assert sorted(tag["name"] for tag in tags) == ["Work", "home"]
    work = next(tag for tag in tags if tag["name"] == "Work")
    assert client.patch(f"{TAGS}/{work['id']}", json={"name": "Office"}).json()["name"] == "Office"
    assert client.get(f"{TASKS}/{task['id']}").json()["tags"] == ["Office"]
    assert_problem(client.post(TAGS, json={"name": "OFFICE"}), 409, "already-exists")
    assert client.delete(f"{TAGS}/{work['id']}").status_code == 204
    assert client.get(f"{TASKS}/{task['id']}").json()["tags"] == []


def test_tags_are_replaced_as_a_whole(client: TestClient, make_task: Make) -> None:
    """A change with `tags` sets exactly these; one without leaves them."""
    path = f"{TASKS}/{make_task(tags=['a', 'b'])['id']}"
    for tags in (["b", "c"], [], ["a"]):
        assert client.patch(path, json={"tags": tags}).json()["tags"] == tags
        assert client.patch(path, json={"title": "x"}).json()["tags"] == tags
        assert client.get(path).json()["tags"] == tags


def test_a_hundred_tasks_cost_as_many_statements_as_one(
    client: TestClient, make_task: Make, database: Database
) -> None:
    """Created together in the order they were sent, listed with their tags, and done together."""
    make_task()
    new = [{"title": f"t{number}", "tags": ["all", f"n{number % 7}"]} for number in range(100)]
    counts = []
    for tasks in (new[:1], new):
        with counted(database) as statements:
            created = client.post(f"{TASKS}/bulk", json={"tasks": tasks}).json()["items"]
        counts.append(len(statements))
        assert [(task["title"], task["tags"]) for task in created] == [
            (task["title"], task["tags"]) for task in tasks
        ]
    assert counts == [4, 4]
    with counted(database) as statements:
        assert client.get(TASKS, params={"limit": 100, "sort": "created_at"}).status_code == 200
        ids = [task["id"] for task in created]
        done = client.post(f"{TASKS}/complete", json={"ids": ids}).json()["items"]
    assert len(statements) == 2
    assert [task["id"] for task in done] == ids
    assert {task["status"] for task in done} == {"done"}


def test_of_many_tasks_all_are_done_or_none(client: TestClient, make_task: Make) -> None:
    """One that is not there undoes the rest."""
    task = make_task()
    assert_problem(client.post(f"{TASKS}/complete", json={"ids": [task["id"], 4711]}), 404)
    assert client.get(f"{TASKS}/{task['id']}").json() == task


def test_statistics_count_in_one_query(client: TestClient, make_task: Make, database: Database) -> None:
    """Each status and priority, zero included; what is overdue and not done; what was done lately."""
    make_task(status="done", priority="high", due_at="2020-01-01T00:00:00Z")
    make_task(priority="high", due_at="2020-01-01T00:00:00Z")
    make_task(due_at="2990-01-01T00:00:00Z")
    with counted(database) as statements:
        counts = client.get(f"{TASKS}/statistics").json()
    assert len(statements) == 1
    assert counts == {
        "total": 3,
        "overdue": 1,
        "completed_last_7_days": 1,
        "by_status": {"todo": 2, "in_progress": 0, "done": 1},
        "by_priority": {"low": 0, "medium": 1, "high": 2, "urgent": 0},
    }


@pytest.mark.slow
@pytest.mark.parametrize("route", ["pooled"])
def test_who_needs_no_password_hash_imports_none(database: Database) -> None:
    """Importing the entrypoint loads neither Argon2 nor the signing of tokens: requests that need them do."""
    code = "import sys, api.index; print(*{'argon2', 'jwt', 'cffi'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=environment_with(DATABASE_URL=database.url.render()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"
