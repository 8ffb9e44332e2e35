"""Four applications as people write them, each before and after its adoption of the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest

from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.environment import PROJECT
from tests.onetrip.network import until

if TYPE_CHECKING:
    from tests.onetrip.servers import Servers

# They have suites of their own, which run as their own.
collect_ignore = ["apps"]

APPS = Path(__file__).parent / "apps"
NAMES = sorted(path.name for path in APPS.iterdir() if (path / "main.py").exists())


@dataclass(frozen=True)
class Shape:
    """The requests that are made of an application, and how its tables are made."""

    table: str
    items: str
    body: dict[str, Any] = field(default_factory=dict)
    tables: str | None = None

    @property
    def arguments(self) -> tuple[str, str]:
        """The same for the program that measures."""
        return self.items, json.dumps(self.body)

    def created(self, client: httpx.Client, name: str) -> httpx.Response:
        """The answer to a request that writes a row of that name."""
        return client.post(self.items, json={"name": name, **self.body})


SHAPES = {
    "async_sessions": Shape(
        "items",
        "/items",
        tables="import asyncio, main\n"
        "async def make():\n"
        "    async with main.engine.begin() as connection:\n"
        "        await connection.run_sync(main.Base.metadata.create_all)\n"
        "    await main.engine.dispose()\n"
        "asyncio.run(make())",
    ),
    "bare_engine": Shape("items", "/items", {"amount": 5}, "import main; main.create_tables()"),
    "session_local": Shape(
        "items", "/items", tables="import main, database; main.Base.metadata.create_all(database.engine)"
    ),
    "sqlmodel_heroes": Shape("hero", "/heroes/", {"secret_name": "x"}),
}


@dataclass(frozen=True)
class Application:
    """An application in a folder of its own, where `onetrip` can be imported as if it were installed."""

    name: str
    folder: Path

    @property
    def shape(self) -> Shape:
        """Its requests."""
        return SHAPES[self.name]

    def run(self, url: DatabaseURL, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the folder, on the database at `url`."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment(url, variables),
            capture_output=True,
            text=True,
            check=False,
        )

    def environment(self, url: DatabaseURL, variables: dict[str, str]) -> dict[str, str]:
        """The variables of a process of its own."""
        paths = os.pathsep.join(
            [".", str(self.folder.parent / "installed"), os.environ.get("PYTHONPATH", "")]
        )
        text = url.render(hide_password=False)
        return {**os.environ, "DATABASE_URL": text, "PYTHONPATH": paths, **variables}

    def make_tables(self, url: DatabaseURL) -> None:
        """Make the tables, unless the application's start does."""
        if self.shape.tables:
            made = self.run(url, "-c", self.shape.tables)
            assert made.returncode == 0, made.stderr

    @contextmanager
    def served(self, url: DatabaseURL, **variables: str) -> Iterator[httpx.Client]:
        """A client of the application, which runs under uvicorn for the block."""
        self.make_tables(url)
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "main:app",
            "--port",
            str(port),
            "--log-level",
            "critical",
        ]
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment(url, variables))
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                until(lambda: process.poll() is not None or _answers(client))
                yield client
        finally:
            process.terminate()
            process.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/openapi.json").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each of the applications."""
    name: str = request.param
    return name


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Application]:
    """An application's copy, adopted or as it was."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "onetrip").symlink_to(PROJECT / "lib" / "onetrip")

    def copied(name: str, *, adopted: bool) -> Application:
        folder = tmp_path / ("adopted" if adopted else "before")
        shutil.copytree(APPS / name, folder)
        if adopted:
            subprocess.run(["git", "apply", "-p0", "adoption.diff"], cwd=folder, check=True)
        return Application(name, folder)

    return copied


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """The name of a database with nothing in it."""
    with servers.copy() as name:
        yield name
