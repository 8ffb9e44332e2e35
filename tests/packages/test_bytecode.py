"""On a file system where nothing can be written, nothing needs to be: every module has its bytecode."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from deploy.toolbox import python
from tests.packages.runtimes import WITHOUT_ROOTS_OVERRIDE, Runtime, Urls, emulator, vercel
from tests.packages.test_session import SESSION

# The imports of an entrypoint, then its later ones.
IMPORTS = {
    "lambda_api": "import api.aws_lambda, sqlalchemy.dialects.postgresql.psycopg",
    "lambda_migrate": "import api.aws_migrate, alembic.command, alembic.config, lib.example.models",
    "vercel_function": "import api.index",
}


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Copies of folders, write-protected."""

    def copy(folder: Path) -> Path:
        target = tmp_path / "package"
        shutil.copytree(folder, target)
        for path in (target, *target.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        write = [*WITHOUT_ROOTS_OVERRIDE, "touch", target / "written"]
        assert subprocess.run(write, capture_output=True, check=False).returncode != 0
        return target

    yield copy
    for path in (tmp_path / "package", *(tmp_path / "package").rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.parametrize("urls", ["pooled"], indirect=True)
@pytest.mark.parametrize(("package", "runtime"), [("lambda_api", emulator), ("vercel_function", vercel)])
def test_it_serves_where_nothing_can_be_written(
    request: pytest.FixtureRequest,
    read_only: Callable[[Path], Path],
    urls: Urls,
    package: str,
    runtime: Callable[..., AbstractContextManager[Runtime]],
) -> None:
    """On a read-only file system a package starts, writes to its database and leaves no trace."""
    folder = read_only(request.getfixturevalue(package))
    before = set(folder.rglob("*"))
    with runtime(folder, **urls.variables) as function:
        assert function.ask(SESSION["create"][0]).status == 201
    assert set(folder.rglob("*")) == before


@pytest.mark.parametrize("package", IMPORTS)
def test_everything_is_imported_from_bytecode(request: pytest.FixtureRequest, package: str) -> None:
    """No module of the package is compiled when it is imported, and no file appears."""
    folder: Path = request.getfixturevalue(package)
    before = set(folder.rglob("*"))
    done = subprocess.run(
        [python(), "-v", "-c", IMPORTS[package]],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "_vendor")]),
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = [
        Path(path) for path in re.findall(r"^# code object from '?([^'\n]+?)'?$", done.stderr, re.MULTILINE)
    ]
    ours = [path for path in loaded if path.is_relative_to(folder)]
    assert len(ours) > 200
    assert [path for path in ours if path.suffix != ".pyc"] == []
    assert set(folder.rglob("*")) == before
