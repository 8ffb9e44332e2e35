"""Lists cost what their caller can see, however much others have."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Select, text
from sqlalchemy.dialects.postgresql.base import PGDialect

from lib.example import accounts, posts, tags, tasks
from lib.example.identity import Caller
from lib.example.pagination import MAX_PAGE_BYTES, Order, fetch_page
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import reading
from tests.example.conftest import AsUser, Make
from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

OTHERS = 100_000
DIALECT: Any = PGDialect()  # type: ignore[no-untyped-call]
# Of all rows, what a page of a caller's own list may read.
FEW = 500
LISTS: dict[str, tuple[Callable[[], Select[Any]], Order]] = {
    "tasks": (tasks.matching, tasks.ORDERS["-created_at"]),
    "tasks with a tag": (lambda: tasks.matching(tag="mine"), tasks.ORDERS["-created_at"]),
    "tasks with a word": (lambda: tasks.matching(text="mine"), tasks.ORDERS["title"]),
    "tags": (tags.own, tags.ORDER),
    "posts": (posts.visible, posts.NEWEST_FIRST),
    "accounts": (accounts.own, accounts.OLDEST_FIRST),
    "transfers": (accounts.transfers, accounts.NEWEST_TRANSFER_FIRST),
}
FILL = f"""
    INSERT INTO users (username, email)
        SELECT 'other' || n, n || '@other.example' FROM generate_series(1, 50) n;
    CREATE TEMP TABLE them AS SELECT array_agg(id) AS ids FROM users WHERE username LIKE 'other%';
    INSERT INTO posts (author_id, title, content, created_at)
        SELECT ids[1 + n % 50], 'x', 'y', now() - n * interval '1 minute'
        FROM them, generate_series(1, {OTHERS}) n;
    INSERT INTO tasks (owner_id, title)
        SELECT ids[1 + n % 50], 'x' FROM them, generate_series(1, {OTHERS}) n;
    INSERT INTO tags (owner_id, name)
        SELECT ids[1 + n % 50], 't' || n FROM them, generate_series(1, {OTHERS}) n;
    INSERT INTO task_tags (task_id, tag_id, owner_id)
        SELECT tasks.id, tags.id, tasks.owner_id FROM tasks JOIN tags ON tags.id = tasks.id
        WHERE tags.owner_id = tasks.owner_id;
    INSERT INTO accounts (owner_id, name)
        SELECT ids[1 + n % 50], 'x' FROM them, generate_series(1, {OTHERS}) n;
    INSERT INTO transfers (owner_id, payee_id, amount)
        SELECT ids[1 + n % 50], ids[1 + (n + 1) % 50], 1 FROM them, generate_series(1, {OTHERS}) n;
    ANALYZE
"""  # noqa: S608  (ours)


@pytest.fixture
def route() -> str:
    """Plans are the server's, whichever way one asks for them."""
    return "direct"


@pytest.fixture
def crowd(servers: Servers, database: Database) -> None:
    """The rows of fifty other users: a hundred thousand in each table."""
    servers.administer(FILL, str(database.url.database))


def _rows_read(plan: dict[str, Any]) -> int:
    """The rows that the plan's scans read, those included that a filter removed."""
    own = 0
    if "Scan" in plan["Node Type"] and "Relation Name" in plan:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        own = int((plan["Actual Rows"] + removed) * plan["Actual Loops"])
    return own + sum(_rows_read(part) for part in plan.get("Plans", ()))


class _Explained:
    """Stands in for a session: explains each statement, in the caller's own session."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database = database
        self._caller = caller
        self.rows_read = 0

    def explain(self, statement: Select[Any]) -> None:
        compiled = statement.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
        asked = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {str(compiled).replace(':', chr(92) + ':')}")
        with reading(self._database, self._caller.options()) as session:
            plan = session.execute(asked).scalar_one()
        plan = json.loads(plan) if isinstance(plan, str) else plan
        self.rows_read += _rows_read(plan[0]["Plan"])


@pytest.mark.usefixtures("crowd")
def test_no_list_reads_the_rows_of_others(
    database: Database, make_user: Make, as_user: AsUser, servers: Servers
) -> None:
    """By offset with its total, and after a cursor: a caller who has little reads little."""
    user = make_user("ada")
    client = as_user(user)
    for number in range(3):
        client.post("/api/v1/tasks", json={"title": f"mine {number}", "tags": ["mine"]})
        client.post("/api/v1/posts", json={"title": "x", "content": "y"})
    servers.administer("ANALYZE", str(database.url.database))
    caller = Caller(user["id"])
    read = {}
    for name, (statement, order) in LISTS.items():
        for cursor in (None, _cursor_of(database, caller, statement(), order)):
            statements: list[Select[Any]] = []
            with reading(database, caller.options()) as session:
                _watch(session, statements)
                fetch_page(session, statement(), order, limit=2, cursor=cursor)
            explained = _Explained(database, caller)
            for asked in statements:
                explained.explain(asked)
            read[name, cursor is not None] = explained.rows_read
    assert {name: rows for name, rows in read.items() if rows > FEW} == {}
    assert read["tasks", False] >= 3


def _watch(session: Any, statements: list[Select[Any]]) -> None:
    """Note each statement that the session is asked."""
    execute, scalars = session.execute, session.scalars

    def noted(run: Callable[..., Any]) -> Callable[..., Any]:
        def asked(statement: Select[Any], *rest: Any, **options: Any) -> Any:
            statements.append(statement)
            return run(statement, *rest, **options)

        return asked

    session.execute, session.scalars = noted(execute), noted(scalars)


def _cursor_of(database: Database, caller: Caller, statement: Select[Any], order: Order) -> str | None:
    with reading(database, caller.options()) as session:
        return fetch_page(session, statement, order, limit=1).next_cursor


@pytest.mark.usefixtures("crowd")
def test_a_moderators_page_of_all_posts_reads_a_page(
    database: Database, make_user: Make, servers: Servers
) -> None:
    """A moderator, who sees all posts, reads the newest by their index."""
    moderator = Caller(make_user("mod", role="moderator")["id"])
    servers.administer("ANALYZE", str(database.url.database))
    cursor = _cursor_of(database, moderator, posts.visible(), posts.NEWEST_FIRST)
    explained = _Explained(database, moderator)
    statements: list[Select[Any]] = []
    with reading(database, moderator.options()) as session:
        _watch(session, statements)
        fetch_page(session, posts.visible(), posts.NEWEST_FIRST, limit=20, cursor=cursor)
    for asked in statements:
        explained.explain(asked)
    assert 20 <= explained.rows_read <= FEW


def test_a_page_of_long_texts_ends_before_the_platforms_limit(
    client: TestClient, ada: dict[str, Any]
) -> None:
    """It holds as many as fit, at least one, and its cursor leads to the rest."""
    assert ada
    ids = [
        client.post("/api/v1/posts", json={"title": "x", "content": "\N{GRINNING FACE}" * 50_000}).json()[
            "id"
        ]
        for _ in range(7)
    ]
    seen: list[int] = []
    query: dict[str, Any] = {"limit": 100}
    pages = 0
    while True:
        response = client.get("/api/v1/posts", params=query)
        page = response.json()
        assert 0 < len(response.content) < 2 * MAX_PAGE_BYTES
        seen += [post["id"] for post in page["items"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        query = {"limit": 100, "cursor": page["next_cursor"]}
    assert seen == ids[::-1]
    assert pages == 2
