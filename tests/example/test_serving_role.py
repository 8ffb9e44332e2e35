"""The role that serves requests: its limits for a client that can run any SQL as it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from lib.onetrip.pool.database import Database
from tests.conftest import SERVING_ROLE
from tests.example.conftest import AsUser, Make
from tests.onetrip.servers import Servers

# Each is tried as the role's own login, without any request around it, and refused by the database.
ATTACKS = {
    "switch policies off": "ALTER TABLE tasks DISABLE ROW LEVEL SECURITY",
    "switch their force off": "ALTER TABLE tasks NO FORCE ROW LEVEL SECURITY",
    "drop a policy": "DROP POLICY tasks_own ON tasks",
    "add a policy": "CREATE POLICY mine ON tasks USING (true)",
    "look past them": "SET row_security = off; SELECT * FROM tasks",
    "give itself rights": f"ALTER ROLE {SERVING_ROLE} BYPASSRLS",
    "become the owner": "SET ROLE postgres",
    "become another at login": "SET SESSION AUTHORIZATION postgres",
    "join the owner": f"GRANT postgres TO {SERVING_ROLE}",
    "join those who read everything": f"GRANT pg_read_all_data TO {SERVING_ROLE}",
    "take a table": f"ALTER TABLE users OWNER TO {SERVING_ROLE}",
    "make a role": "CREATE ROLE helper LOGIN SUPERUSER",
    "read a hash": "SELECT password_hash FROM users",
    "read all of a user": "SELECT * FROM users",
    "find a hash by comparing": "SELECT id FROM users WHERE password_hash LIKE '$argon2id%'",
    "write a hash": "UPDATE users SET password_hash = 'x'",
    "take a hash along": "UPDATE users SET email = email RETURNING password_hash",
    "copy hashes": "COPY users (password_hash) TO STDOUT",
    "make an administrator": "INSERT INTO users (username, email, role) VALUES ('mallory', 'm@x.y', 'admin')",
    "bring a token back": "UPDATE users SET tokens_since = NULL",
    "read who tried to log in": "SELECT * FROM attempts",
    "forget wrong tries": "DELETE FROM attempts",
    "count a try itself": "SELECT count_attempt('x', 1)",
    "find a person with all columns": "SELECT * FROM named('ada')",
    "read the record": "SELECT * FROM audit",
    "write the record": "INSERT INTO audit (action) VALUES ('x')",
    "forge a record": "SELECT record('login', 1, NULL, 1)",
    "erase the record": "DELETE FROM audit",
    "make money": "UPDATE accounts SET balance = 1000000",
    "make a transfer by hand": "INSERT INTO transfers (amount) VALUES (1)",
    "change a transfer": "UPDATE transfers SET amount = 1",
    "delete a transfer": "DELETE FROM transfers",
    "empty a table": "TRUNCATE tasks",
    "drop a table": "DROP TABLE tasks",
    "change a function": "CREATE OR REPLACE FUNCTION caller_id() RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
    "make a function": "CREATE FUNCTION helper() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a table": "CREATE TABLE helper (id int)",
    "disable a trigger": "ALTER TABLE users DISABLE TRIGGER users_promotion",
    "skip triggers": "SET session_replication_role = replica",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "change the schema's version": "UPDATE alembic_version SET version_num = 'x'",
    "move a sequence": "SELECT setval('users_id_seq', 1)",
}
REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation)
OWNED = ("tasks", "tags", "task_tags", "posts", "accounts", "transfers", "users", "idempotency_keys")


@pytest.fixture
def route() -> str:
    """By the server's own address: what is refused is refused through a pooler too."""
    return "direct"


@pytest.fixture
def login(servers: Servers, database: Database, ada: dict[str, Any], as_user: AsUser) -> Iterator[Any]:
    """A connection as the serving role, to a database in which Ada has something of everything."""
    client = as_user(ada)
    ids = [client.post("/api/v1/accounts", json={"name": "x", "balance": 5}).json()["id"] for _ in range(2)]
    moved = {"from_account_id": ids[0], "to_account_id": ids[1], "amount": "1"}
    for room, body in (
        ("tasks", {"title": "x", "tags": ["y"]}),
        ("posts", {"title": "x", "content": "y"}),
        ("transfers", moved),
    ):
        made = client.post(f"/api/v1/{room}", json=body, headers={"Idempotency-Key": room})
        assert made.status_code == 201, made.text
    url = servers.url("direct", str(database.url.database), SERVING_ROLE)
    arguments: Any = url.connect_arguments()
    with psycopg.connect(**arguments, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_by_sql_is_refused(login: Any, attack: str) -> None:
    """The database says no, whatever the application forgot to ask."""
    with pytest.raises(REFUSED):
        login.execute(ATTACKS[attack])


def test_without_a_caller_there_is_nothing_to_see_or_change(login: Any) -> None:
    """A session without a user finds every table empty, and changes no row."""
    for table in OWNED:
        columns = "id" if table == "users" else "*"
        found = login.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608  (ours)
        assert found == [], table
    for change in ("DELETE FROM tasks", "DELETE FROM users", "UPDATE posts SET title = 'x'"):
        assert login.execute(change).rowcount == 0, change


def test_it_owns_nothing_and_belongs_to_nothing(login: Any, servers: Servers, database: Database) -> None:
    """Neither a table nor a function is its own, and it can take no other role's rights."""
    name = str(database.url.database)
    owned = f"""SELECT count(*) FROM pg_shdepend
        WHERE refobjid = '{SERVING_ROLE}'::regrole AND deptype = 'o'"""  # noqa: S608  (ours)
    assert servers.administer(owned, name) == [(0,)]
    memberships = f"SELECT count(*) FROM pg_auth_members WHERE member = '{SERVING_ROLE}'::regrole"  # noqa: S608
    assert servers.administer(memberships, name) == [(0,)]
    rights = "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
    assert login.execute(f"{rights} WHERE rolname = current_user").fetchone() == (False,) * 5


def test_no_function_with_its_owners_rights_can_be_led_astray(servers: Servers, template: str) -> None:
    """Each names its search path, with temporary objects last, and only roles that need it can call it."""
    functions = servers.administer(
        """SELECT proname, coalesce(array_to_string(proconfig, ','), ''),
            has_function_privilege('public', oid, 'execute') FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prosecdef""",
        template,
    )
    assert len(functions) >= 10
    for name, settings, _ in functions:
        assert settings == "search_path=public, pg_temp", name
    # A trigger's function cannot be called; admission is what every caller asks for.
    assert {name for name, _, public in functions if public} == {"admit_caller"}


def test_a_hash_is_never_answered(login: Any, make_user: Make) -> None:
    """Functions tell salt and parameters, never what a password was turned into."""
    make_user("grace")
    for name in ("ada", "grace"):
        _, salted = login.execute("SELECT * FROM begin_login(%s, '')", [name]).fetchone()
        assert salted.startswith("$argon2id$")
        assert salted.endswith("$")
        assert salted.count("$") == 5
    assert login.execute("SELECT finish_login('ada', '', %s)", [salted + "A" * 43]).fetchone() == (None,)


def test_who_logs_in_cannot_be_shadowed(login: Any) -> None:
    """Temporary tables and functions of the same name are not what the functions find."""
    login.execute("CREATE TEMP TABLE users (id bigint, username text, email text, password_hash text)")
    login.execute("INSERT INTO pg_temp.users VALUES (1, 'ada', 'x', '$argon2id$v=19$m=1,t=1,p=1$AA$AA')")
    _, salted = login.execute("SELECT * FROM begin_login('ada', '')").fetchone()
    assert "m=19456" in salted
