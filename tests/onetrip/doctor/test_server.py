"""The doctor's checks on the server: logins, poolers, schema, rights, connections."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.doctor.conftest import CANARY, Doctor
from tests.onetrip.servers import Servers

WRONG_PASSWORD = f"{CANARY}-not"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"password": WRONG_PASSWORD}, "password is refused"),
        ({"password": None}, "the URL has none"),
        ({"user": "nobody_here", "password": CANARY}, "no such role"),
        ({"database": "nothing_here"}, "no such database"),
    ],
)
def test_why_a_login_failed_is_told(
    doctor: Doctor, url: DatabaseURL, change: dict[str, Any], told: str
) -> None:
    """A wrong password, role or database: each has its own line and remedy, and none shows the password."""
    visit = doctor(DATABASE_URL=replace(url, **change))
    assert visit.marks["login"] == "✗"
    assert told in visit.says["login"]
    assert visit.marks.keys() & {"latency", "schema", "direct"} == set()
    assert visit.code == 2


def test_a_role_that_may_not_log_in_is_told(doctor: Doctor, servers: Servers, url: DatabaseURL) -> None:
    """A right that is missing is not taken for a password that is wrong."""
    servers.administer(f"ALTER ROLE {url.user} NOLOGIN")
    visit = doctor("--only", "login", DATABASE_URL=url)
    servers.administer(f"ALTER ROLE {url.user} LOGIN")
    assert "may not log in" in visit.says["login"]
    assert "LOGIN" in visit.remedies["login"]


def test_a_role_that_may_not_connect_is_told(doctor: Doctor, servers: Servers, url: DatabaseURL) -> None:
    """Nor is the right to connect to this one database."""
    servers.administer(f"REVOKE CONNECT ON DATABASE {url.database} FROM public")
    visit = doctor("--only", "login", DATABASE_URL=url)
    assert "may not connect to this database" in visit.says["login"]
    assert "GRANT CONNECT" in visit.remedies["login"]


@pytest.mark.slow
def test_a_server_that_is_full_is_told(
    doctor: Doctor, servers: Servers, url: DatabaseURL, database_name: str
) -> None:
    """A role that has used up its connections is told what to do about it."""
    servers.administer(f"ALTER DATABASE {database_name} CONNECTION LIMIT 0")
    visit = doctor("--only", "login", DATABASE_URL=url)
    assert "no connection left" in visit.says["login"]
    assert "DATABASE_MODE=pooled" in visit.remedies["login"]


@pytest.mark.parametrize(
    ("reached", "marks"),
    [
        (("direct", "direct"), "✓✓"),
        (("pooled", "pooled"), "✓✗"),
        (("pooled", "direct"), "!✗"),
        (("direct", "pooled"), "!✓"),
    ],
)
def test_a_pooler_where_none_should_be_is_told(
    doctor: Doctor, servers: Servers, database_name: str, reached: tuple[str, str], marks: str
) -> None:
    """A pooler is detected by a query, not by its name, for requests and for migrations."""
    way, mode = reached
    url = servers.url(way, database_name)
    visit = doctor("--only", "pooler", "direct", DATABASE_URL=url, DATABASE_MODE=mode)
    assert "".join(visit.marks[name] for name in ("pooler", "direct")) == marks


def test_migrations_have_a_way_of_their_own(doctor: Doctor, servers: Servers, database_name: str) -> None:
    """With both URLs set as they should be, requests go through the pooler and migrations do not."""
    urls = {
        "DATABASE_URL": servers.url("pooled", database_name),
        "DATABASE_URL_UNPOOLED": servers.url("direct", database_name),
    }
    visit = doctor("--only", "pooler", "direct", **urls, DATABASE_MODE="pooled")
    assert (visit.marks, visit.code) == ({"pooler": "✓", "direct": "✓"}, 0)


def test_migrations_that_are_not_let_in_are_told(doctor: Doctor, url: DatabaseURL) -> None:
    """Of two URLs the one that is refused is named; requests go on."""
    urls = {"DATABASE_URL": url, "DATABASE_URL_UNPOOLED": replace(url, password=CANARY[::-1])}
    visit = doctor("--only", "login", "direct", **urls, DATABASE_MODE="pooled")
    assert visit.marks == {"login": "✓", "direct": "✗"}
    assert "migrations' URL: the password is refused" in visit.says["direct"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DELETE FROM alembic_version", "✗ never migrated"),
        ("DROP TABLE alembic_version", "✗ never migrated"),
        ("UPDATE alembic_version SET version_num = '9999'", "! at 9999, which is newer than this code"),
        ("REVOKE SELECT ON alembic_version FROM patient", "! this role may not read"),
    ],
)
def test_a_schema_that_does_not_fit_the_code_is_told(
    doctor: Doctor, servers: Servers, url: DatabaseURL, change: str, told: str
) -> None:
    """Behind is wrong and says how to migrate; ahead, or hidden, is a warning."""
    servers.administer(change, url.database or "")
    visit = doctor("--only", "schema", DATABASE_URL=url)
    assert f"{visit.marks['schema']} {visit.says['schema']}".startswith(told)
    assert (visit.remedies["schema"] == "make migrate") == (visit.code == 2)


def test_a_project_without_alembic_has_no_migrations(
    doctor: Doctor, url: DatabaseURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Alembic is not installed the schema is no reason to complain, and every other check is made."""
    for name in ("alembic", "alembic.config", "alembic.script", "alembic.util"):
        monkeypatch.setitem(sys.modules, name, None)
    visit = doctor("--only", "schema", DATABASE_URL=url)
    assert (visit.marks["schema"], visit.says["schema"]) == ("✓", "no migrations are configured")


def test_what_is_wrong_with_the_schema_hides_nothing_else(
    doctor: Doctor, servers: Servers, url: DatabaseURL
) -> None:
    """Checks that do not depend on one another are all made, whatever one of them found."""
    servers.administer("DROP TABLE alembic_version", url.database or "")
    visit = doctor(DATABASE_URL=url)
    assert (visit.marks.pop("schema"), set(visit.marks.values())) == ("✗", {"✓"}), visit.out


@pytest.fixture
def bypassing(servers: Servers, role: str) -> Iterator[str]:
    """The role, with the right to see every row."""
    servers.administer(f"ALTER ROLE {role} BYPASSRLS")
    yield role
    servers.administer(f"ALTER ROLE {role} NOBYPASSRLS")


def test_a_superuser_is_a_warning(doctor: Doctor, servers: Servers, database_name: str) -> None:
    """A role that may do anything is told."""
    visit = doctor("--only", "role", DATABASE_URL=servers.url("direct", database_name))
    assert (visit.marks, visit.code) == ({"role": "!"}, 1)
    assert "superuser" in visit.says["role"]


def test_a_role_that_sees_every_row_is_a_warning(doctor: Doctor, url: DatabaseURL, bypassing: str) -> None:
    """A role that row-level security does not bind is told."""
    visit = doctor("--only", "role", DATABASE_URL=url)
    assert visit.marks == {"role": "!"}
    assert f"{bypassing} bypasses row-level security" in visit.says["role"]


def test_a_replica_that_is_read_only_is_told(
    doctor: Doctor, servers: Servers, url: DatabaseURL, database_name: str
) -> None:
    """A read-only server is reported by the doctor before a request fails."""
    servers.administer(f"ALTER DATABASE {database_name} SET default_transaction_read_only = on")
    visit = doctor("--only", "server", DATABASE_URL=url)
    assert visit.marks == {"server": "✗"}
    assert "read-only" in visit.says["server"]


def test_a_replica_that_is_none_is_a_warning(doctor: Doctor, url: DatabaseURL) -> None:
    """DATABASE_REPLICA_URL is checked too, its password hidden with the others."""
    assert doctor("--only", "replica", DATABASE_URL=url, DATABASE_REPLICA_URL=url).marks == {"replica": "!"}
    down = replace(url, password=WRONG_PASSWORD)
    visit = doctor("--only", "replica", DATABASE_URL=url, DATABASE_REPLICA_URL=down)
    assert visit.marks == {"replica": "!"}
    assert "the primary is read instead" in visit.says["replica"]


@pytest.mark.parametrize(
    ("instances", "mark", "sum_"), [("10", "✓", "10 x 10 = 100"), ("11", "✗", "11 x 10 = 110")]
)
def test_connections_are_counted(
    doctor: Doctor, url: DatabaseURL, instances: str, mark: str, sum_: str
) -> None:
    """The server's limit less its reserve is compared with pool times processes, and the sum is shown."""
    visit = doctor("--only", "budget", "--instances", instances, DATABASE_URL=url)
    assert visit.marks == {"budget": mark}
    assert "101 connections (104 less 3 reserved)" in visit.says["budget"]
    assert sum_ in visit.says["budget"]


def test_a_limit_of_the_role_counts(
    doctor: Doctor, servers: Servers, url: DatabaseURL, database_name: str
) -> None:
    """A limit that is lower than the server's own is the one that holds."""
    servers.administer(f"ALTER DATABASE {database_name} CONNECTION LIMIT 30")
    visit = doctor("--only", "budget", DATABASE_URL=url)
    assert "30 connections (the database's limit)" in visit.says["budget"]
    assert "room for 3 processes" in visit.says["budget"]


def test_direct_on_a_serverless_platform_is_a_warning(doctor: Doctor, url: DatabaseURL) -> None:
    """There instances multiply at the platform's will, and the server's connections do not."""
    visit = doctor("--only", "budget", DATABASE_URL=url, VERCEL="1", DATABASE_MODE="direct")
    assert visit.marks == {"budget": "!"}
    assert "direct on vercel" in visit.says["budget"]
