"""Vercel's build command migrates a preview's own database, and never production's from a preview."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.preview_migration import WrongDatabaseError, check_database, reason_to_leave
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.environment import PROJECT, clean_environment
from tests.onetrip.servers import Servers

PRODUCTION = "ep-cool-name-123456.us-east-1.aws.neon.tech"
PREVIEW = "ep-other-name-654321.us-east-1.aws.neon.tech"
HOST = {"PRODUCTION_DATABASE_HOST": PRODUCTION}


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """A database without a schema."""
    with servers.copy() as name:
        yield name


def build_step(
    servers: Servers, database: str, variables: dict[str, str], folder: Path = PROJECT
) -> subprocess.CompletedProcess[str]:
    """Run the command as Vercel does, with both URLs of `database`."""
    urls = {
        "DATABASE_URL": servers.url("pooled", database).render(hide_password=False),
        "DATABASE_URL_UNPOOLED": servers.url("direct", database).render(hide_password=False),
    }
    return subprocess.run(
        [sys.executable, "-m", "deploy.preview_migration"],
        env=clean_environment(**{**urls, "VERCEL": "1", **variables}),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def is_migrated(servers: Servers, database: str) -> bool:
    """Return True if the schema exists."""
    return servers.administer("SELECT to_regclass('alembic_version') IS NOT NULL", database) == [(True,)]


@pytest.mark.slow
def test_a_preview_is_migrated_however_often_it_is_built(servers: Servers, database: str) -> None:
    """The build brings the preview's schema up; a second one finds it there."""
    for _ in range(2):
        done = build_step(servers, database, {"VERCEL_ENV": "preview", **HOST})
        assert (done.returncode, done.stderr) == (0, "")
        first, *ran, last = done.stdout.splitlines()
        assert (first, last) == (
            "Migrating the preview database over its direct URL",
            "Its schema is the newest.",
        )
        assert len(ran) == 1, "each migration that ran, or that there is nothing to do"
    assert is_migrated(servers, database)


def test_productions_database_is_not_migrated_from_a_preview(servers: Servers, database: str) -> None:
    """A preview that was given production's database fails to build, and nothing was changed."""
    given = {"VERCEL_ENV": "preview", "PRODUCTION_DATABASE_HOST": "127.0.0.1"}
    done = build_step(servers, database, given)
    assert done.returncode == 1
    assert done.stderr.startswith("This preview's database is production's (127.0.0.1)")
    assert not is_migrated(servers, database)


@pytest.mark.slow
def test_production_is_migrated_when_it_says_so(servers: Servers, database: str) -> None:
    """With the switch, in production's own build."""
    given = {"PRODUCTION_DATABASE_HOST": "127.0.0.1", "MIGRATE_PRODUCTION": "true"}
    done = build_step(servers, database, {"VERCEL_ENV": "production", **given})
    assert (done.returncode, done.stderr) == (0, "")
    assert is_migrated(servers, database)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"VERCEL_ENV": "", **HOST},
        {"VERCEL_ENV": "development", **HOST, "MIGRATE_PRODUCTION": "true"},
        {"VERCEL_ENV": "preview"},
        {"VERCEL_ENV": "preview", "PRODUCTION_DATABASE_HOST": "", "MIGRATE_PRODUCTION": "true"},
        {"VERCEL_ENV": "production", **HOST},
        {"VERCEL_ENV": "production", **HOST, "MIGRATE_PRODUCTION": "1"},
        {"VERCEL_ENV": "production", "MIGRATE_PRODUCTION": "true"},
    ],
)
def test_whoever_did_not_ask_is_left_alone(variables: dict[str, str]) -> None:
    """Without the switch for it, a build touches no database, and says why."""
    assert reason_to_leave(variables)


def test_leaving_it_alone_fails_no_build(servers: Servers, database: str) -> None:
    """A build that migrates nothing succeeds, without even a URL that works."""
    done = build_step(servers, database, {"VERCEL_ENV": "production", "DATABASE_URL": "nonsense", **HOST})
    assert done.returncode == 0
    assert done.stdout.startswith("The database is left as it is: production is migrated before")
    assert not is_migrated(servers, database)


@pytest.mark.parametrize(
    "production",
    [PRODUCTION, PRODUCTION.upper(), f" {PRODUCTION}. ", PRODUCTION.replace(".", "-pooler.", 1)],
)
@pytest.mark.parametrize(
    "host", [PRODUCTION, PRODUCTION.title(), PRODUCTION.replace(".", "-Pooler.", 1) + "."]
)
def test_a_host_is_recognised_however_it_is_written(production: str, host: str) -> None:
    """Neither a pooler's name nor capital letters get a preview past the check."""
    url = DatabaseURL(host=host)
    with pytest.raises(WrongDatabaseError, match="no preview changes that"):
        check_database("preview", production, url)
    check_database("production", production, url)


def test_production_notices_that_the_guard_points_elsewhere() -> None:
    """A host that is not production's would keep previews away from nothing."""
    url = DatabaseURL(host=PRODUCTION)
    check_database("preview", PREVIEW, url)
    with pytest.raises(WrongDatabaseError, match="is not where production's database is"):
        check_database("production", PREVIEW, url)


def test_a_url_in_place_of_the_host_is_refused_unrepeated() -> None:
    """A whole URL in place of the host is reported, without its password."""
    with pytest.raises(WrongDatabaseError, match="is no host") as refused:
        check_database("preview", f"postgresql://u:hunter2@{PRODUCTION}/d", DatabaseURL(host=PREVIEW))
    assert "hunter2" not in str(refused.value)


def test_a_missing_url_is_named(servers: Servers, database: str, tmp_path: Path) -> None:
    """A preview without a database ends with the line that names the variable."""
    nothing = {"DATABASE_URL": "", "DATABASE_URL_UNPOOLED": ""}
    # Not in the project's folder, where someone's own `.env` may lie.
    done = build_step(servers, database, {"VERCEL_ENV": "preview", **HOST, **nothing}, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("DATABASE_URL: is missing.")
