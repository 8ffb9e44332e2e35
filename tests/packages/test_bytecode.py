"""On a file system where nothing can be written, nothing needs to be: every module has its bytecode."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.toolbox import python

# Importing a door, then what it imports later.
IMPORTS = {
    "lambda_api": "import api.aws_lambda, sqlalchemy.dialects.postgresql.psycopg",
    "lambda_migrate": "import api.aws_migrate, alembic.command, alembic.config, lib.example.models",
    "vercel_function": "import api.index",
}


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
