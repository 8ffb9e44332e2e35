"""Another's data is not found, even by a query that forgets whose it wants."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import ORMExecuteState, Session

from api.application import create_app
from lib.example.identity import Caller
from lib.example.models import Task
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import async_reading, async_transaction, reading, transaction
from lib.onetrip.settings.settings import load_settings
from tests.conftest import alembic
from tests.example.conftest import PASSWORD, AsUser, Make, authorization
from tests.onetrip.servers import Servers

CANARY = "canary-of-ada"
OWNED = {"tasks": "owner_id", "tags": "owner_id", "task_tags": "owner_id", "posts": "author_id"}
OWNED |= {"accounts": "owner_id", "transfers": "owner_id"}
ROOMS = ("tasks", "tags", "posts", "accounts", "transfers")


def _forget_where(state: ORMExecuteState) -> None:
    """Run the statement without its conditions, whatever they were."""
    statement: Any = state.statement
    if getattr(statement, "_where_criteria", None):
        forgetful = statement._generate()  # noqa: SLF001  (to do what no one should)
        forgetful._where_criteria = ()  # noqa: SLF001  (see above)
        state.statement = forgetful


@dataclass(frozen=True)
class People:
    """Two who have the same, under other names."""

    ada: dict[str, Any]
    grace: dict[str, Any]
    hers: dict[str, int]


def _fill(client: TestClient, word: str) -> dict[str, int]:
    """Something of everything; the id of one of each."""
    accounts = [
        client.post("/api/v1/accounts", json={"name": word, "balance": "10.00"}).json()["id"]
        for _ in range(2)
    ]
    moved = {"from_account_id": accounts[0], "to_account_id": accounts[1], "amount": "1.00"}
    made = {
        "tasks": {"title": word, "tags": [word]},
        "posts": {"title": word, "content": word},
        "transfers": moved,
    }
    ids = {}
    for room, body in made.items():
        response = client.post(f"/api/v1/{room}", json=body)
        assert response.status_code == 201, response.text
        ids[room] = response.json()["id"]
    return ids | {"accounts": accounts[0], "tags": client.get("/api/v1/tags").json()["items"][0]["id"]}


@pytest.fixture
def people(make_user: Make, as_user: AsUser) -> People:
    """Ada, whose things hold the canary, and Grace."""
    ada, grace = make_user("ada"), make_user("grace")
    hers = _fill(as_user(ada), CANARY)
    _fill(as_user(grace), "moth")
    return People(ada, grace, hers)


@pytest.fixture
def forgotten(people: People) -> Iterator[None]:
    """From here on every WHERE is forgotten, in every query of the ORM's."""
    assert people
    event.listen(Session, "do_orm_execute", _forget_where)
    yield
    event.remove(Session, "do_orm_execute", _forget_where)


def _rows_of(servers: Servers, database: Database, user_id: int) -> dict[str, list[Any]]:
    """Return the rows of a user, as the superuser sees them."""
    name = str(database.url.database)
    return {
        table: servers.administer(f"SELECT * FROM {table} WHERE {column} = {user_id} ORDER BY 1, 2", name)  # noqa: S608  (ours)
        for table, column in OWNED.items()
    }


@pytest.mark.usefixtures("forgotten")
def test_a_list_without_its_where_shows_nothing_of_anothers(people: People, as_user: AsUser) -> None:
    """Each list, statistics included, holds what is the caller's and no more."""
    client = as_user(people.grace)
    for room in ROOMS:
        response = client.get(f"/api/v1/{room}")
        assert response.status_code == 200
        assert CANARY not in response.text
        assert response.json()["total"] == (2 if room == "accounts" else 1)
    assert client.get("/api/v1/tasks/statistics").json()["total"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("forgotten")
def test_a_change_without_its_where_changes_nothing_of_anothers(
    people: People, as_user: AsUser, servers: Servers, database: Database
) -> None:
    """Updates and deletions that forget whose they are leave everybody else's rows as they were."""
    before = _rows_of(servers, database, people.ada["id"])
    assert all(before.values())
    client = as_user(people.grace)
    changes = {
        "tasks": {"title": "taken", "tags": []},
        "tags": {"name": "taken"},
        "posts": {"title": "taken"},
        "accounts": {"name": "taken"},
    }
    for room, change in changes.items():
        path = f"/api/v1/{room}/{people.hers[room]}"
        assert CANARY not in client.get(path).text
        assert CANARY not in client.patch(path, json=change).text
        assert client.delete(path).status_code in {204, 404, 409}
    client.post("/api/v1/tasks/complete", json={"ids": [people.hers["tasks"]]})
    assert _rows_of(servers, database, people.ada["id"]) == before


@pytest.mark.slow
@pytest.mark.usefixtures("forgotten")
def test_many_at_once_each_see_their_own(people: People, as_user: AsUser) -> None:
    """Users whose requests share connections, through the pooler too, are never mistaken for each other."""
    ids = [people.ada["id"], people.grace["id"]] * 40
    clients = {user["id"]: as_user(user) for user in (people.ada, people.grace)}

    def owners(user_id: int) -> set[int]:
        return {task["owner_id"] for task in clients[user_id].get("/api/v1/tasks").json()["items"]}

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(owners, ids)) == [{user_id} for user_id in ids]


@pytest.mark.parametrize("session", [transaction, reading])
def test_plain_sql_sees_what_is_the_callers(people: People, database: Database, session: Any) -> None:
    """Not only what the ORM asks: any statement of a caller's session."""
    with session(database, Caller(people.grace["id"]).options()) as open_session:
        for table, column in OWNED.items():
            owners = open_session.scalars(text(f"SELECT {column} FROM {table}")).all()  # noqa: S608  (ours)
            assert set(owners) == {people.grace["id"]}
        assert open_session.scalars(text("SELECT id FROM users")).all() == [people.grace["id"]]


@pytest.mark.parametrize("session", [async_transaction, async_reading])
@pytest.mark.anyio
async def test_async_sessions_are_bound_too(people: People, database: Database, session: Any) -> None:
    """The same options do the same for async code."""
    async with session(database, Caller(people.grace["id"]).options()) as open_session:
        owners = await open_session.scalars(select(Task.owner_id))
        assert set(owners) == {people.grace["id"]}
    await database.aclose()


def test_the_next_on_the_connection_is_nobody(people: People, database: Database) -> None:
    """Role and name end with the transaction: what the pool hands out next knows of neither."""
    with reading(database, Caller(people.grace["id"]).options()) as session:
        assert session.scalar(text("SELECT current_user")) == "app_caller"
    with transaction(database) as session:
        asked = """SELECT current_user, current_setting('app.caller_id', true),
            current_setting('app.caller_role', true)"""
        assert [value or "" for value in session.execute(text(asked)).one()] == ["app_caller", "", ""]


@pytest.mark.parametrize("statement", ["SELECT password_hash FROM users", "SELECT * FROM attempts"])
def test_what_logging_in_needs_no_caller_reads(people: People, database: Database, statement: str) -> None:
    """Hashes and attempts are kept from the role that serves people, not only from their answers."""
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        reading(database, Caller(people.ada["id"]).options()) as session,
    ):
        session.execute(text(statement))


@pytest.mark.parametrize("change", ["role = 'admin'", "is_active = false", "password_hash = 'x'", "id = 0"])
def test_nobody_promotes_themselves(people: People, database: Database, change: str) -> None:
    """The table protects columns that users may not change in their own row, even if a route forgets to."""
    with (
        pytest.raises(ProgrammingError, match=r"only administrators|permission denied"),
        transaction(database, Caller(people.grace["id"]).options()) as session,
    ):
        session.execute(text(f"UPDATE users SET {change}"))  # noqa: S608  (ours)


def test_a_row_of_anothers_cannot_be_made(people: People, database: Database) -> None:
    """An INSERT in another user's name is refused by the table."""
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        transaction(database, Caller(people.grace["id"]).options()) as session,
    ):
        session.add(Task(owner_id=people.ada["id"], title="planted"))


@pytest.mark.slow
@pytest.mark.parametrize("route", ["direct"])
def test_an_owner_without_privileges_serves_and_is_bound(servers: Servers, route: str) -> None:
    """The tables' owner need be no superuser, nor have BYPASSRLS; then it sees nothing itself."""
    name = f"owned_{uuid4().hex[:12]}"
    servers.administer(f"CREATE ROLE {name} LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS")
    servers.administer(f"GRANT app_caller TO {name} WITH ADMIN OPTION")
    servers.administer(f"CREATE DATABASE {name} OWNER {name}")
    url = replace(servers.url(route, name), user=name)
    alembic(url, "upgrade", "head")
    database = Database(load_settings(DATABASE_URL=url.render(), DATABASE_MODE=route))
    with TestClient(create_app(database)) as client:
        new = {"username": "ada", "email": "ada@example.com", "password": PASSWORD}
        ada = client.post("/api/v1/auth/register", json=new).json()
        client.headers.update(authorization(ada["id"]))
        assert client.post("/api/v1/tasks", json={"title": "x"}).status_code == 201
        assert client.get("/api/v1/tasks").json()["total"] == 1
        form = {"username": "ada", "password": PASSWORD}
        assert client.post("/api/v1/auth/token", data=form).status_code == 200
    with reading(database) as session:
        assert session.scalars(select(Task)).all() == []
    database.close()
    servers.administer(f"DROP DATABASE {name} WITH (FORCE)")
    servers.administer(f"DROP OWNED BY {name}")
    servers.administer(f"DROP ROLE {name}")


def test_the_servers_role_has_no_way_around(servers: Servers, template: str) -> None:
    """The role that serves requests owns nothing, bypasses nothing and makes no other role."""
    role = "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = 'app_caller'"
    assert servers.administer(role, template) == [(False, False, False)]
    tables = """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND relname <> 'alembic_version' AND NOT relrowsecurity"""
    assert servers.administer(tables, template) == []


def test_a_driver_of_its_own_is_bound_by_the_role(
    servers: Servers, people: People, database: Database
) -> None:
    """The role alone, without a caller, sees no rows at all."""
    arguments: Any = servers.url("direct", str(database.url.database)).connect_arguments()
    with psycopg.connect(**arguments) as connection:
        connection.execute("SET ROLE app_caller")
        for table in OWNED:
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)  # noqa: S608  (ours)
    assert people.ada["id"] != people.grace["id"]
