"""The database for one's own machine: the one that is set, or a PostgreSQL of the project's own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lib.onetrip.connection.source import direct_url
from lib.onetrip.settings.settings import environment_with, is_given, settings_or_exit
from lib.onetrip.testing.postgres import LocalPostgres, running

FOLDER = Path(".postgres")


@contextmanager
def database_environment() -> Iterator[tuple[Mapping[str, str], bool]]:
    """The environment of child processes, and whether its database is on this machine.

    Its DATABASE_URL is the one that was given, or that of a server started for the block.
    """
    if is_given("database_url") or is_given("database_url_unpooled"):
        url = direct_url(settings_or_exit())
        say(f"Using the database that DATABASE_URL names: {url}")
        yield environment_with(), url.is_local
        return
    server = LocalPostgres(FOLDER)
    say(f"Starting PostgreSQL (data in {shown(server.places.data)}/)")
    with running(server):
        url = server.url()
        say(f"Other programs reach it by DATABASE_URL={shlex.quote(url.render())}")
        given = environment_with(DATABASE_URL=url.render(hide_password=False))
        try:
            # What libpq would read of another server's does not concern this one.
            yield {name: value for name, value in given.items() if not name.startswith("PG")}, True
        finally:
            say("Stopping PostgreSQL; the data stays")


def shown(path: Path) -> Path:
    """Show `path` as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201  (this is a program for a terminal)
