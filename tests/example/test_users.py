"""Users: created, found, listed, changed, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Select, literal_column, select
from sqlalchemy import table as table_of

from tests.example.conftest import PASSWORD
from tests.onetrip.assertions import assert_problem

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from lib.onetrip.pool.database import Database
    from tests.example.conftest import AsUser, Make

REGISTER = "/api/v1/auth/register"
USERS = "/api/v1/users"
ABSENT = f"{USERS}/4711"


@pytest.fixture
def client(client: TestClient, root: dict[str, Any]) -> TestClient:  # noqa: ARG001  (whose token it sends)
    """An administrator's client."""
    return client


@pytest.fixture
def ada(make_user: Make) -> dict[str, Any]:
    """A user, who is not the one who asks."""
    return make_user("ada")


def _names(client: TestClient, **query: str) -> list[str]:
    response = client.get(USERS, params=query)
    assert response.status_code == 200, response.text
    return [user["username"] for user in response.json()["items"] if user["username"] != "root"]


def test_a_created_user_is_found_at_its_location(client: TestClient) -> None:
    """A 201 names where the new user is, and what is there is what was answered."""
    response = client.post(
        REGISTER, json={"username": "ada", "email": "Ada@example.com", "password": PASSWORD}
    )
    assert response.status_code == 201
    user = response.json()
    assert response.headers["location"] == f"{USERS}/{user['id']}"
    found = client.get(response.headers["location"])
    assert (found.status_code, found.json()) == (200, user)
    assert {**user, "id": 0, "created_at": ""} == {
        "id": 0,
        "username": "ada",
        "email": "Ada@example.com",
        "role": "user",
        "is_active": True,
        "created_at": "",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "ada", "email": "other@example.com"},
        {"username": "ADA", "email": "other@example.com"},
        {"username": "other", "email": "ada@example.com"},
        {"username": "other", "email": "Ada@Example.COM"},
    ],
    ids=["username", "username in capitals", "email", "email in capitals"],
)
def test_a_taken_name_or_email_is_409(client: TestClient, make_user: Make, fields: dict[str, str]) -> None:
    """One account for each name and each email, however they are spelt, new or changed."""
    make_user("ada")
    grace = make_user("grace")
    assert_problem(client.post(REGISTER, json={**fields, "password": PASSWORD}), 409, "already-exists")
    assert_problem(client.patch(f"{USERS}/{grace['id']}", json=fields), 409, "already-exists")
    assert _names(client) == ["ada", "grace"]
    assert client.get(f"{USERS}/{grace['id']}").json() == grace


def test_a_user_may_change_the_spelling_of_their_own_name(client: TestClient, ada: dict[str, Any]) -> None:
    """A user is not in the way of themselves."""
    response = client.patch(f"{USERS}/{ada['id']}", json={"username": "Ada", "email": "ADA@example.com"})
    assert response.status_code == 200
    assert response.json() == {**ada, "username": "Ada", "email": "ADA@example.com"}


def test_users_are_listed_in_the_order_of_their_creation(
    client: TestClient, root: dict[str, Any], make_user: Make
) -> None:
    """The list has every user once, oldest first, and says how many there are."""
    users = [root, *(make_user(name) for name in ("grace", "ada", "mary"))]
    assert client.get(USERS).json() == {"items": users, "total": 4, "next_cursor": None}


def test_an_empty_list_has_no_items_and_a_total_of_zero(client: TestClient) -> None:
    """Nothing is an answer, not an error."""
    page = client.get(USERS, params={"q": "nobody"}).json()
    assert page == {"items": [], "total": 0, "next_cursor": None}


SEARCHES = {
    "LOVE": ["ada.lovelace"],
    "example.com": ["ada.lovelace", "a_hopper"],
    "_": ["a_hopper"],
    "%": ["100"],
    "\\": ["back"],
    "/": ["slash"],
    "'": ["quote"],
    "a%e": [],
    "a_a": [],
    "%%": [],
}


def test_search_takes_every_character_as_itself(client: TestClient, make_user: Make) -> None:
    r"""`q` finds a part of the name or email in any case; `%`, `_`, `\` and `/` stand for themselves."""
    make_user("ada.lovelace")
    make_user("a_hopper")
    for name, local in (("100", "100%"), ("back", "a\\b"), ("slash", "a/b"), ("quote", "o'neil")):
        make_user(name, email=f"{local}@elsewhere.net")
    assert {text: _names(client, q=text) for text in SEARCHES} == SEARCHES


def test_a_user_is_found_by_the_whole_email(client: TestClient, make_user: Make) -> None:
    """`email` finds exactly that address, in any case, and no pattern."""
    make_user("ada")
    make_user("grace")
    assert _names(client, email="ADA@Example.com") == ["ada"]
    for email in ("da@example.com", "%@example.com", "a_a@example.com", "nobody@example.com"):
        assert _names(client, email=email) == []


def test_filters_hold_together(client: TestClient, make_user: Make) -> None:
    """With `q` and `email` only a user is listed for whom both hold."""
    make_user("ada")
    assert _names(client, q="ada", email="ada@example.com") == ["ada"]
    assert _names(client, q="grace", email="ada@example.com") == []


@pytest.mark.parametrize(
    "change",
    [
        {"username": "countess"},
        {"email": "countess@example.com"},
        {"role": "moderator"},
        {"is_active": False},
        {"role": "admin", "is_active": False, "username": "ada2"},
        {},
    ],
    ids=lambda change: "+".join(change) or "nothing",
)
def test_a_change_touches_only_what_was_sent(
    client: TestClient, ada: dict[str, Any], make_user: Make, change: dict[str, object]
) -> None:
    """Fields that were not sent stay, an empty change changes nothing, and no one else is touched."""
    grace = make_user("grace")
    path = f"{USERS}/{ada['id']}"
    response = client.patch(path, json=change)
    assert (response.status_code, response.json()) == (200, ada | change)
    assert client.get(path).json() == ada | change
    assert client.get(f"{USERS}/{grace['id']}").json() == grace


@pytest.mark.parametrize("field", ["username", "email", "role", "is_active"])
def test_null_for_a_required_field_is_422(client: TestClient, ada: dict[str, Any], field: str) -> None:
    """Mandatory members of a user cannot be set to null."""
    path = f"{USERS}/{ada['id']}"
    problem = assert_problem(client.patch(path, json={field: None}), 422, "invalid-request")
    assert [part["loc"] for part in problem["errors"]] == [["body", field]]
    assert client.get(path).json() == ada


@pytest.mark.parametrize("field", ["id", "created_at", "updated_at", "password_hash"])
def test_a_field_the_server_keeps_is_refused(client: TestClient, ada: dict[str, Any], field: str) -> None:
    """A field that clients cannot set is refused rather than ignored."""
    fields = {"username": "other", "email": "other@example.com", field: ada.get(field, "x")}
    for response in (
        client.post(REGISTER, json={**fields, "password": PASSWORD}),
        client.patch(f"{USERS}/{ada['id']}", json=fields),
    ):
        assert_problem(response, 422, "invalid-request")
    assert _names(client) == ["ada"]


def test_a_new_user_cannot_choose_their_role(client: TestClient) -> None:
    """Registration gives no administrator's role."""
    fields = {"username": "mallory", "email": "m@example.com", "password": PASSWORD, "role": "admin"}
    assert_problem(client.post(REGISTER, json=fields), 422, "invalid-request")


def test_a_deleted_user_is_gone(client: TestClient, ada: dict[str, Any], make_user: Make) -> None:
    """The first DELETE is 204 without a body, every later request 404, and others stay."""
    grace = make_user("grace")
    path = f"{USERS}/{ada['id']}"
    response = client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert_problem(client.delete(path), 404)
    assert_problem(client.get(path), 404)
    assert _names(client) == [grace["username"]]


def test_the_tasks_of_a_deleted_user_are_gone(
    client: TestClient, root: dict[str, Any], make_user: Make, as_user: AsUser, owner: Database
) -> None:
    """Deleting a user deletes their tasks, tags and posts, and no others."""
    grace = make_user("grace")
    for user in (grace, root):
        theirs = as_user(user)
        assert theirs.post("/api/v1/tasks", json={"title": "x", "tags": ["y"]}).status_code == 201
        assert theirs.post("/api/v1/posts", json={"title": "x", "content": "y"}).status_code == 201
    assert client.delete(f"{USERS}/{grace['id']}").status_code == 204
    with owner.engine.connect() as connection:
        for table, column in (("tasks", "owner_id"), ("tags", "owner_id"), ("posts", "author_id")):
            query: Select[Any] = select(literal_column(column)).select_from(table_of(table))
            assert connection.scalars(query).all() == [root["id"]]


def test_everyone_changes_and_deletes_themselves(ada: dict[str, Any], as_user: AsUser) -> None:
    """One's own name and email are one's own to change; then the token of a deleted user is worth nothing."""
    client, path = as_user(ada), f"{USERS}/{ada['id']}"
    assert client.get(f"{USERS}/me").json() == client.get(path).json() == ada
    assert client.patch(path, json={"username": "countess"}).json() == {**ada, "username": "countess"}
    assert client.delete(path).status_code == 204
    assert_problem(client.get(f"{USERS}/me"), 401)


@pytest.mark.parametrize(
    "change", [{"role": "admin"}, {"is_active": True}, {"username": "x1x", "role": "user"}]
)
@pytest.mark.parametrize("role", ["user", "moderator"])
def test_nobody_promotes_themselves(
    make_user: Make, as_user: AsUser, role: str, change: dict[str, object]
) -> None:
    """Role and activity are an administrator's to give, even if they would stay as they are."""
    user = make_user("mallory", role=role)
    client, path = as_user(user), f"{USERS}/{user['id']}"
    assert_problem(client.patch(path, json=change), 403)
    assert client.get(path).json() == user


def test_a_moderator_sees_everyone_and_changes_nobody(
    client: TestClient, make_user: Make, as_user: AsUser, ada: dict[str, Any]
) -> None:
    """A visible row without the right to change it is 403, an invisible row 404."""
    moderator = as_user(make_user("mod", role="moderator"))
    path = f"{USERS}/{ada['id']}"
    assert moderator.get(path).json() == ada
    assert moderator.get(USERS).json()["total"] == 3
    assert_problem(moderator.patch(path, json={"username": "other"}), 403)
    assert_problem(moderator.delete(path), 403)
    grace = as_user(make_user("grace"))
    for response in (grace.get(path), grace.patch(path, json={"username": "other"}), grace.delete(path)):
        assert_problem(response, 404)
    assert_problem(grace.get(USERS), 403)
    assert client.get(path).json() == ada


@pytest.mark.parametrize("change", [{"is_active": False}, None], ids=["switched off", "deleted"])
def test_the_token_of_someone_who_is_gone_is_refused_at_once(
    client: TestClient, ada: dict[str, Any], as_user: AsUser, change: dict[str, bool] | None
) -> None:
    """A token says who; whether they still may is asked each time."""
    theirs, path = as_user(ada), f"{USERS}/{ada['id']}"
    assert theirs.get("/api/v1/tasks").status_code == 200
    response = client.patch(path, json=change) if change else client.delete(path)
    assert response.status_code in {200, 204}
    for answer in (
        theirs.get("/api/v1/tasks"),
        theirs.get("/api/v1/tasks/1"),
        theirs.post("/api/v1/tasks", json={"title": "x"}),
        theirs.get(USERS),
    ):
        assert assert_problem(answer, 401)
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("change", [{"username": "ada"}, {}], ids=["a change", "an empty change"])
def test_an_absent_user_is_404(client: TestClient, change: dict[str, str]) -> None:
    """A missing user is 404 when read, changed or deleted."""
    for response in (client.get(ABSENT), client.patch(ABSENT, json=change), client.delete(ABSENT)):
        assert_problem(response, 404)


@pytest.mark.parametrize("length", [3, 50])
def test_the_longest_and_the_shortest_name_are_taken(
    client: TestClient, make_user: Make, length: int
) -> None:
    """The bounds themselves are allowed, in the API as in the table."""
    user = make_user("u" * length, email=f"{'e' * 242}@example.com")
    assert client.get(f"{USERS}/{user['id']}").json() == user
