"""Lists in pages: by offset with a total, by cursor while rows come and go."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from lib.example.models import Priority, Task, User
from lib.onetrip.session.session import transaction
from tests.example.conftest import authorization
from tests.onetrip.assertions import assert_problem

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from lib.onetrip.pool.database import Database
    from tests.example.conftest import Make

TASKS = "/api/v1/tasks"
USERS = "/api/v1/users"
# The first user of each test.
ADA = 1
LISTS = (USERS, TASKS)
SORTS = [sign + name for name in ("created_at", "updated_at", "priority", "title") for sign in ("", "-")]
# For what is refused before a connection is asked for: the way to the database makes no difference.
ONE_ROUTE = pytest.mark.parametrize("route", ["pooled"])
# Escapes, surrogate pairs, control characters, equals, and the longest that a title may be.
TITLES = ("", "a", "a", "B", "é", '"\\', "\x01" * 199, "\N{GRINNING FACE}" * 199, "%_/")


def _cursor(payload: object) -> str:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _page(client: TestClient, path: str, **query: str | int) -> dict[str, Any]:
    response = client.get(path, params=query)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


@pytest.fixture(autouse=True)
def ada(client: TestClient, make_user: Make) -> dict[str, Any]:
    """Someone whose tasks they are, and who may see all users."""
    user = make_user("ada", role="admin")
    client.headers.update(authorization(user["id"]))
    return user


@pytest.fixture
def five(make_user: Make, make_task: Make) -> Callable[[str], list[int]]:
    """The ids of a list of five rows, in the list's own order; there are as many users as tasks."""
    # Ada is there already.
    users = [1] + [make_user(f"user{number}")["id"] for number in range(4)]
    tasks = [make_task(f"task{number}")["id"] for number in range(5)]
    return lambda path: users if path == USERS else tasks[::-1]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(("limit", "offset"), [(1, 0), (2, 1), (2, 3), (2, 4), (5, 0), (100, 0), (3, 3)])
def test_an_offset_names_a_slice_of_the_list(
    client: TestClient, five: Callable[[str], list[int]], path: str, limit: int, offset: int
) -> None:
    """`limit` and `offset` cut the list as a slice does, and the total counts all of it."""
    ids = five(path)
    page = _page(client, path, limit=limit, offset=offset)
    assert [item["id"] for item in page["items"]] == ids[offset : offset + limit]
    assert page["total"] == 5
    assert (page["next_cursor"] is None) == (offset + limit >= 5)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("offset", [5, 6, 10_000])
def test_an_offset_beyond_the_end_still_tells_the_total(
    client: TestClient, five: Callable[[str], list[int]], path: str, offset: int
) -> None:
    """A page beyond the end has no items, and the total."""
    five(path)
    assert _page(client, path, offset=offset) == {"items": [], "total": 5, "next_cursor": None}


def test_an_offset_beyond_the_end_counts_what_the_filters_leave(client: TestClient, make_task: Make) -> None:
    """The total is that of the filtered list, not of the table."""
    for title in ("a", "b", "ab"):
        make_task(title)
    assert _page(client, TASKS, q="a", offset=7) == {"items": [], "total": 2, "next_cursor": None}


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_goes_on_where_a_page_by_offset_ended(
    client: TestClient, five: Callable[[str], list[int]], path: str
) -> None:
    """The cursor of any page leads to the next rows, without counting; the last page has none."""
    ids = five(path)
    first = _page(client, path, limit=2, offset=1)
    second = _page(client, path, limit=2, cursor=first["next_cursor"])
    assert [item["id"] for item in second["items"]] == ids[3:]
    assert second["total"] is second["next_cursor"] is None


@ONE_ROUTE
def test_a_page_beyond_the_bounds_is_422(client: TestClient) -> None:
    """Every list is bounded, and no other spelling of a number slips through."""
    beyond = {
        "limit": ("0", "101", "-1", "1.0", "1e1", "1_0", "+1", "", "all"),
        "offset": ("-1", "10001", "0.0", "NaN", "9" * 5000),
    }
    for path, (name, values) in product(LISTS, beyond.items()):
        for value in values:
            problem = assert_problem(client.get(path, params={name: value}), 422, "invalid-request")
            assert [part["loc"] for part in problem["errors"]] == [["query", name]]


@pytest.mark.parametrize("path", LISTS)
def test_the_bounds_of_a_page_are_allowed(client: TestClient, path: str) -> None:
    """The largest page and the farthest offset are served."""
    page = _page(client, path, limit=100, offset=10_000)
    assert page == {"items": [], "total": int(path == USERS), "next_cursor": None}


@pytest.mark.parametrize("path", LISTS)
def test_offset_and_cursor_together_are_422(
    client: TestClient, five: Callable[[str], list[int]], path: str
) -> None:
    """Two ways to say where a page begins contradict each other, so neither is ignored."""
    five(path)
    cursor = _page(client, path, limit=1)["next_cursor"]
    assert_problem(client.get(path, params={"cursor": cursor, "offset": 1}), 422, "invalid-request")


class _Table:
    """Rows of one list that come and go, with the ids that were there all the time."""

    def __init__(self, database: Database, path: str, seed: int) -> None:
        self._database = database
        self._random = random.Random(seed)
        self._model = User if path == USERS else Task
        self._number = 0
        self._owner = ADA
        self.present = {self._owner} if path == USERS else set()
        self.insert(20)
        self.steady = set(self.present)

    def insert(self, count: int) -> None:
        """Insert rows in one transaction: their times are equal."""
        with transaction(self._database) as session:
            rows = [self._user() if self._model is User else self._task() for _ in range(count)]
            session.add_all(rows)
            session.flush()
            self.present |= {row.id for row in rows}

    def disturb(self) -> None:
        """Insert and delete some rows, anywhere in the list."""
        self.insert(self._random.randrange(4))
        removable = sorted(self.present - {self._owner})
        gone = self._random.sample(removable, min(len(removable), self._random.randrange(3)))
        with transaction(self._database) as session:
            for row_id in gone:
                session.delete(session.get_one(self._model, row_id))
        self.present -= set(gone)
        self.steady -= set(gone)

    def page_size(self) -> int:
        return self._random.randint(1, 5)

    def _user(self) -> User:
        self._number += 1
        return User(username=f"user{self._number}", email=f"{self._number}@example.com")

    def _task(self) -> Task:
        title = f"{self._random.randrange(3)}{self._random.choice(TITLES)}"
        return Task(owner_id=self._owner, title=title, priority=self._random.choice(list(Priority)))


def _walk(client: TestClient, path: str, sort: str | None, table: _Table) -> Iterator[int]:
    """The ids of the whole list, page after page, with disturbances in between."""
    query: dict[str, str | int] = {"sort": sort} if sort else {}
    while True:
        page = _page(client, path, limit=table.page_size(), **query)
        yield from (item["id"] for item in page["items"])
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]
        table.disturb()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("path", "sort"), [(USERS, None), *((TASKS, sort) for sort in SORTS)])
def test_pages_by_cursor_neither_repeat_nor_skip_while_rows_come_and_go(
    client: TestClient, owner: Database, path: str, sort: str | None, seed: int
) -> None:
    """Inserts and deletes between two pages: no row comes twice, and none that stayed is missed."""
    table = _Table(owner, path, seed)
    seen = list(_walk(client, path, sort, table))
    assert len(seen) == len(set(seen))
    assert set(seen) >= table.steady
    assert len(table.steady) > 5


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_outlives_the_row_it_stands_at(
    client: TestClient, five: Callable[[str], list[int]], path: str
) -> None:
    """A cursor is a position, not a row: deleting the row takes nothing from the pages that follow."""
    ids = five(path)
    # Ada's tasks are deleted with her, so no other user's row is deleted.
    first = _page(client, path, limit=2)
    assert client.delete(f"{path}/{ids[1]}").status_code == 204
    assert [item["id"] for item in _page(client, path, cursor=first["next_cursor"])["items"]] == ids[2:]


def _hostile_cursors() -> dict[str, tuple[str, str]]:
    """Cursors that no list made, by what is wrong with them: the sort they are used with, and the cursor."""
    moment = "2030-01-01T00:00:00+00:00"
    return {
        "empty": ("title", ""),
        "no base64": ("title", "%"),
        "one letter": ("title", "a"),
        "not ascii": ("title", "é"),
        "NUL": ("title", "\x00"),
        "not UTF-8": ("title", _cursor(b"\xff\xfe\xfd")),
        "no JSON": ("title", _cursor(b"[")),
        "deep": ("title", _cursor(b"[" * 1500)),
        "null": ("title", _cursor(None)),
        "a number": ("title", _cursor(1)),
        "a text": ("title", _cursor("abc")),
        "an object": ("title", _cursor({"a": 1, "b": 2, "c": 3})),
        "too short": ("title", _cursor(["tasks:title", "a"])),
        "too long": ("title", _cursor(["tasks:title", "a", 1, 2])),
        "no label": ("title", _cursor(["title", "a", 1])),
        "a list for label": ("title", _cursor([["tasks:title"], "a", 1])),
        "another order": ("-title", _cursor(["tasks:title", "a", 1])),
        "another column": ("created_at", _cursor(["tasks:updated_at", moment, 1])),
        "another list": ("title", _cursor(["users:id", 1, 1])),
        "title: number": ("title", _cursor(["tasks:title", 1, 1])),
        "title: NaN": ("title", _cursor(b'["tasks:title", NaN, 1]')),
        "title: null": ("title", _cursor(["tasks:title", None, 1])),
        "title: object": ("title", _cursor(["tasks:title", {}, 1])),
        "title: NUL": ("title", _cursor(["tasks:title", "\x00", 1])),
        "title: half a pair": ("title", _cursor(["tasks:title", "\ud800", 1])),
        "title: other half": ("title", _cursor(["tasks:title", "a\udfff", 1])),
        "priority: unknown": ("priority", _cursor(["tasks:priority", "unheard of", 1])),
        "priority: list": ("priority", _cursor(["tasks:priority", [], 1])),
        "priority: NUL": ("priority", _cursor(["tasks:priority", "\x00", 1])),
        "time: no zone": ("created_at", _cursor(["tasks:created_at", "2030-01-01T00:00:00", 1])),
        "time: a day": ("created_at", _cursor(["tasks:created_at", "2030-01-01", 1])),
        "time: a number": ("created_at", _cursor(["tasks:created_at", 0, 1])),
        "time: NaN": ("created_at", _cursor(b'["tasks:created_at", NaN, 1]')),
        "time: infinity": ("created_at", _cursor(["tasks:created_at", "infinity", 1])),
        "time: NUL": ("created_at", _cursor(["tasks:created_at", f"{moment}\x00", 1])),
        "id: text": ("title", _cursor(["tasks:title", "a", "1"])),
        "id: float": ("title", _cursor(["tasks:title", "a", 1.0])),
        "id: true": ("title", _cursor(["tasks:title", "a", True])),
        "id: null": ("title", _cursor(["tasks:title", "a", None])),
        "id: zero": ("title", _cursor(["tasks:title", "a", 0])),
        "id: negative": ("title", _cursor(["tasks:title", "a", -1])),
        "id: beyond bigint": ("title", _cursor(["tasks:title", "a", 2**63])),
        "id: 1,000 digits": ("title", _cursor(["tasks:title", "a", 10**1000])),
        "id: NaN": ("title", _cursor(b'["tasks:title", "a", NaN]')),
        "id: infinity": ("title", _cursor(b'["tasks:title", "a", -Infinity]')),
    }


@ONE_ROUTE
def test_a_cursor_that_no_list_made_is_422(client: TestClient, make_task: Make) -> None:
    """A cursor of any content is accepted or refused; it never fails later, in the database."""
    make_task("b")
    for name, (sort, cursor) in _hostile_cursors().items():
        response = client.get(TASKS, params={"sort": sort, "cursor": cursor})
        assert response.status_code == 422, f"{name}: {response.text}"
        problem = assert_problem(response, 422, "invalid-request")
        assert [part["loc"] for part in problem["errors"]] == [["query", "cursor"]]


@ONE_ROUTE
def test_a_cursor_that_the_users_list_did_not_make_is_422(client: TestClient) -> None:
    """The same holds for the list that goes by number."""
    payloads = (
        ["users:id", "1", 1],
        ["users:id", 1.0, 1],
        ["users:id", True, 1],
        ["users:id", 2**63, 1],
        ["users:id", -1, 1],
        ["users:id", None, 1],
        ["users:-id", 1, 1],
        ["tasks:title", "a", 1],
        b'["users:id", NaN, 1]',
        b'["users:id", ' + b"9" * 1500 + b", 1]",
    )
    for payload in payloads:
        response = client.get(USERS, params={"cursor": _cursor(payload)})
        assert response.status_code == 422, f"{payload!r:.40}: {response.text}"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"])
def test_a_cursor_at_the_ends_of_time_is_a_position_like_any_other(
    client: TestClient, make_task: Make, moment: str
) -> None:
    """Moments that Python can hold but a session could not show are compared, not read back."""
    make_task()
    cursor = _cursor(["tasks:created_at", moment, 1])
    items = _page(client, TASKS, sort="created_at", cursor=cursor)["items"]
    assert len(items) == (1 if moment.startswith("0001") else 0)


@pytest.mark.parametrize("sort", ["title", "-title"])
@pytest.mark.parametrize("title", ["\u0377" * 200, "\N{GRINNING FACE}" * 200, '"\\' * 100])
def test_a_cursor_is_never_too_long_to_be_used(
    client: TestClient, make_task: Make, title: str, sort: str
) -> None:
    """The server accepts its own cursor for any title."""
    first, second = sorted((make_task(title)["id"], make_task(title)["id"]), reverse=sort == "-title")
    page = _page(client, TASKS, sort=sort, limit=1)
    assert [item["id"] for item in page["items"]] == [first]
    page = _page(client, TASKS, sort=sort, cursor=page["next_cursor"])
    assert [item["id"] for item in page["items"]] == [second]
