"""The API as HTTP clients expect it: versions, repeated requests, links, media types, methods."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.example.conftest import AsUser, Make
from tests.onetrip.assertions import assert_problem
from tests.onetrip.servers import Servers

MADE: dict[str, dict[str, Any]] = {
    "/api/v1/tasks": {"title": "x", "tags": ["y"]},
    "/api/v1/tasks/bulk": {"tasks": [{"title": "x"}, {"title": "y"}]},
    "/api/v1/posts": {"title": "x", "content": "y"},
    "/api/v1/tags": {"name": "x"},
    "/api/v1/accounts": {"name": "x", "balance": "0.00"},
}
CHANGES: dict[str, dict[str, Any]] = {
    "/api/v1/tasks": {"title": "new"},
    "/api/v1/posts": {"title": "new"},
    "/api/v1/tags": {"name": "new"},
    "/api/v1/accounts": {"name": "new"},
}
pytestmark = pytest.mark.usefixtures("ada")


def _changeable(client: TestClient, path: str) -> str:
    made = client.post(path, json=MADE[path])
    assert made.status_code == 201, made.text
    return str(made.headers["location"])


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_on_what_was_not_seen_is_412(client: TestClient, path: str) -> None:
    """Of two clients that read the same, the second to write learns that it would undo the first."""
    place = _changeable(client, path)
    tag = client.get(place).headers["etag"]
    first = client.patch(place, json=CHANGES[path], headers={"If-Match": tag})
    assert first.status_code == 200
    assert first.headers["etag"] == client.get(place).headers["etag"] != tag
    for request in (
        client.patch(place, json=CHANGES[path], headers={"If-Match": tag}),
        client.patch(place, json=CHANGES[path], headers={"If-Match": f"W/{first.headers['etag']}"}),
        client.delete(place, headers={"If-Match": tag}),
    ):
        assert_problem(request, 412, "precondition-failed")
    assert client.patch(place, json=CHANGES[path], headers={"If-Match": "*"}).status_code == 200
    both = f"{tag}, {client.get(place).headers['etag']}"
    assert client.delete(place, headers={"If-Match": both}).status_code == 204
    assert_problem(client.patch(place, json=CHANGES[path], headers={"If-Match": tag}), 404)


def test_a_user_is_changed_by_version_too(client: TestClient) -> None:
    """By one's own number as by `me`; a condition that makes no sense is not met."""
    me = "/api/v1/users/me"
    tag = client.get(me).headers["etag"]
    assert client.patch(me, json={"username": "countess"}, headers={"If-Match": tag}).status_code == 200
    assert_problem(client.patch(me, json={"username": "ada"}, headers={"If-Match": tag}), 412)
    assert_problem(client.patch(me, json={"username": "ada"}, headers={"If-Match": "nope"}), 412)
    assert client.delete(me).status_code == 204
    assert_problem(client.get(me), 401)


def test_a_change_of_nothing_leaves_version_and_time(client: TestClient) -> None:
    """An equal value is no change; a tag's new name changes every task that shows it."""
    task = client.post("/api/v1/tasks", json={"title": "x", "tags": ["y"]})
    place = task.headers["location"]
    before = client.get(place)
    same = client.patch(place, json={"title": "x"})
    assert (same.json(), same.headers["etag"]) == (before.json(), before.headers["etag"])
    tag = client.get("/api/v1/tags").json()["items"][0]["id"]
    client.patch(f"/api/v1/tags/{tag}", json={"name": "z"})
    renamed = client.get(place)
    assert renamed.json()["tags"] == ["z"]
    assert renamed.headers["etag"] != before.headers["etag"]
    client.delete(f"/api/v1/tags/{tag}")
    assert client.get(place).headers["etag"] != renamed.headers["etag"]


@pytest.mark.parametrize("path", MADE)
def test_a_request_that_is_sent_again_has_one_effect(client: TestClient, path: str) -> None:
    """The same key and body get the same answer, which says so; another body is refused."""
    headers = {"Idempotency-Key": "k"}
    first = client.post(path, json=MADE[path], headers=headers)
    assert first.status_code == 201, first.text
    again = client.post(path, json=MADE[path], headers={"Idempotency-Key": '"k"'})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers.get("location") == first.headers.get("location")
    field = next(iter(MADE[path]))
    other = {**MADE[path], field: [{"title": "z"}] if field == "tasks" else "other"}
    assert_problem(client.post(path, json=other, headers=headers), 422, "key-reused")
    listed = path.removesuffix("/bulk")
    assert client.get(listed).json()["total"] == (2 if path.endswith("bulk") else 1)


@pytest.mark.slow
def test_requests_of_one_key_that_come_together_have_one_effect(client: TestClient) -> None:
    """Each waits for the first, and gets its answer."""

    def post(_: int) -> Any:
        return client.post("/api/v1/accounts", json={"name": "x"}, headers={"Idempotency-Key": "k"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert client.get("/api/v1/accounts").json()["total"] == 1


def test_two_keys_in_one_request_are_refused(client: TestClient) -> None:
    """None of them is taken for the other."""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert_problem(client.post("/api/v1/tags", json={"name": "x"}, headers=headers), 400)


def test_a_page_links_to_those_around_it(client: TestClient, make_task: Make) -> None:
    """First, next and previous, with the filters that were asked for."""
    for number in range(5):
        make_task(f"task {number}")
    response = client.get("/api/v1/tasks", params={"limit": 2, "offset": 2, "q": "task", "sort": "title"})
    links = {
        link.split('"')[1]: link.split(">")[0].strip("< ") for link in response.headers["link"].split(",")
    }
    assert links.keys() == {"first", "next", "prev"}
    titles = {
        name: [task["title"] for task in client.get(link).json()["items"]] for name, link in links.items()
    }
    assert titles == {"first": ["task 0", "task 1"], "prev": ["task 0", "task 1"], "next": ["task 4"]}


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"content-type": "text/plain"}, "unsupported-media-type"),
        ({"content-type": "application/json-patch+json"}, "unsupported-media-type"),
        ({}, "unsupported-media-type"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "unsupported-encoding"),
    ],
)
def test_a_body_of_another_kind_is_415(client: TestClient, headers: dict[str, str], told: str) -> None:
    """It is refused unread, and the answer says which kind is taken."""
    response = client.post("/api/v1/tasks", content=b'{"title": "x"}', headers=headers)
    assert_problem(response, 415, told)
    assert {"accept-post", "accept-encoding"} & response.headers.keys()


def test_answers_are_kept_by_no_cache_and_sniffed_by_none(client: TestClient) -> None:
    """A user sees their own rows; a 204 has no media type at all."""
    place = _changeable(client, "/api/v1/tags")
    for response in (client.get(place), client.get("/api/v1/nowhere"), client.delete(place)):
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "content-type" not in client.delete(_changeable(client, "/api/v1/tags")).headers


def test_times_are_in_utc_whatever_the_databases_zone(
    client: TestClient, servers: Servers, database: Any, as_user: AsUser, make_user: Make
) -> None:
    """To the second, in years before there were zones too."""
    assert client.get("/api/v1/tasks").status_code == 200
    name = str(database.url.database)
    servers.administer(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'", name)
    servers.pooler.command(f"RECONNECT {name}")
    database.engine.dispose()
    grace = as_user(make_user("grace"))
    made = grace.post("/api/v1/tasks", json={"title": "x", "due_at": "0002-01-01T00:00:00Z"})
    assert made.json()["due_at"] == "0002-01-01T00:00:00Z"
    assert made.json()["created_at"].endswith("Z")
    servers.administer(f"ALTER DATABASE {name} RESET timezone", name)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_somebody_who_is_gone_is_401_wherever_they_write(
    client: TestClient, ada: dict[str, Any], method: str
) -> None:
    """A batch of statements whose caller is refused says so, and not that the database is away."""
    place = _changeable(client, "/api/v1/posts")
    assert client.delete("/api/v1/users/me").status_code == 204
    path = place if method == "PATCH" else "/api/v1/posts"
    assert_problem(client.request(method, path, json=MADE["/api/v1/posts"]), 401, "invalid-token")
    assert ada
