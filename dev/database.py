"""The database for one's own machine: the one that is set, or a PostgreSQL of the project's own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dev.serving_role import SERVING_ROLE
from lib.onetrip.connection.source import direct_url
from lib.onetrip.settings.settings import Settings, environment_with, load_settings
from lib.onetrip.testing.postgres import LocalPostgres, running
from lib.onetrip.url.database_url import DatabaseURL

FOLDER = Path(".postgres")


class DevDatabase(NamedTuple):
    """The environment of child processes, and what may be done to the database that it names."""

    environment: Mapping[str, str]
    # On this machine, so that migrating it is what a developer expects.
    is_local: bool
    # The project's own; rows of the example have a place in no other.
    is_made: bool


@contextmanager
def dev_database() -> Iterator[DevDatabase]:
    """The database that DATABASE_URL names, or a server started for the block.

    Here alone the rules of development hold unless something else is said.
    """
    rules = {} if Settings.is_given("environment") else {"ENVIRONMENT": "development"}
    if Settings.is_given("database_url") or Settings.is_given("database_url_unpooled"):
        url = direct_url(load_settings(**rules))
        say(f"Using the database that DATABASE_URL names: {url}")
        yield DevDatabase(environment_with(**rules), is_local=url.is_local, is_made=False)
        return
    server = LocalPostgres(FOLDER)
    say(f"Starting PostgreSQL (data in {shown(server.places.data)}/)")
    with running(server):
        url = server.url()
        say(f"Other programs reach it by DATABASE_URL={shlex.quote(url.render())}")
        given = environment_with(DATABASE_URL=url.render(hide_password=False), **rules)
        try:
            # libpq's own variables may be about another server.
            environment = {name: value for name, value in given.items() if not name.startswith("PG")}
            yield DevDatabase(environment, is_local=True, is_made=True)
        finally:
            say("Stopping PostgreSQL; the data stays")


def serving_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment in which requests run as the role that owns nothing, if the migrations made one."""
    if Settings.is_given("database_url") or Settings.is_given("database_url_unpooled"):
        return environment
    granted = subprocess.run([sys.executable, "-m", "dev.serving_role"], env=environment, check=False)
    if granted.returncode != 0:
        return environment
    owner = DatabaseURL.parse(environment["DATABASE_URL"])
    urls = {"DATABASE_URL": replace(owner, user=SERVING_ROLE), "MIGRATION_DATABASE_URL": owner}
    return {**environment, **{name: url.render(hide_password=False) for name, url in urls.items()}}


def shown(path: Path) -> Path:
    """Show `path` as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201  (this is a program for a terminal)
