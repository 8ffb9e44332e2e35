"""Vercel's own build runs the command that migrates a preview, and still makes the same function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import vercel_package
from deploy.source import SourceTree
from deploy.toolbox import PROJECT, ToolError
from tests.onetrip.servers import Servers
from tests.packages.runtimes import Urls


@pytest.fixture
def empty(servers: Servers) -> Iterator[Urls]:
    """A database without a schema."""
    with servers.copy() as name:
        yield Urls(servers.url("pooled", name), servers.url("direct", name), "pooled")


def is_migrated(servers: Servers, urls: Urls) -> bool:
    """Return True if the schema exists."""
    made = servers.administer("SELECT to_regclass('alembic_version') IS NOT NULL", str(urls.direct.database))
    return made == [(True,)]


def files(folder: Path) -> set[str]:
    """The paths of all files in a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_previews_build_migrates_and_ships_what_any_build_ships(
    servers: Servers, empty: Urls, tmp_path: Path, vercel_function: Path
) -> None:
    """The schema is there, and the function has its bytecode and none of what migrated."""
    given = {"VERCEL_ENV": "preview", "PRODUCTION_DATABASE_HOST": "production.example.com"}
    output = vercel_package.build(tmp_path, SourceTree(PROJECT), **given, **empty.variables)
    assert is_migrated(servers, empty)
    (function,) = (output / "functions").iterdir()
    assert files(function) == files(vercel_function)
    assert [path for path in files(function) if "alembic" in path] == []


def test_a_build_with_productions_database_fails(servers: Servers, empty: Urls, tmp_path: Path) -> None:
    """No deployment comes of a preview that was given production's database, and nothing was changed."""
    given = {"VERCEL_ENV": "preview", "PRODUCTION_DATABASE_HOST": "127.0.0.1"}
    with pytest.raises(ToolError, match="This preview's database is production's"):
        vercel_package.build(tmp_path, SourceTree(PROJECT), **given, **empty.variables)
    assert not is_migrated(servers, empty)
