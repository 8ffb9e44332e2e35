"""The example can be deleted: what docs/use-it-in-your-app.md says is done to a copy of the tree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from lib.onetrip.settings.settings import environment_with
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import Servers

GUIDE = PROJECT / "docs" / "use-it-in-your-app.md"
# What a tree has beside what is tracked, and what this needs none of.
LEFT = ("__pycache__", ".git", ".venv", ".tools", ".postgres", "build", "node_modules", ".*_cache", ".env")
# What `make check` does but for the types, and `make test-platforms` but for the packages: these take long.
CHECK = """
.venv/bin/python -m ruff format --check . && .venv/bin/python -m ruff check .
.venv/bin/python -m pytest --collect-only -n 0 tests/packages
"""


def _steps() -> list[tuple[str, str]]:
    """The guide's blocks for shell, files and changes, in their order."""
    return re.findall(r"^```(sh|python|diff)\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def _take(tree: Path, kind: str, block: str, environment: dict[str, str]) -> None:
    if kind == "sh":
        command = block.replace(".venv/bin/python", sys.executable)
        done = subprocess.run(
            ["sh", "-ec", command], cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    elif kind == "python":
        first, text = block.split("\n", 1)
        (tree / first.removeprefix("# ")).write_text(text)
    else:
        first, *lines = block.splitlines()
        path = tree / first.removeprefix("--- ")
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] == sign) for sign in "-+")
        text = path.read_text()
        assert text.count(old) == 1, f"{first}: the guide changes what is not there once:\n{old}"
        path.write_text(text.replace(old, new))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project, with the tools that were fetched for it already."""
    copy = shutil.copytree(PROJECT, tmp_path / "app", ignore=shutil.ignore_patterns(*LEFT))
    if (PROJECT / ".tools").exists():
        (copy / ".tools").symlink_to(PROJECT / ".tools")
    return copy


def test_what_the_guide_says_works(tree: Path, servers: Servers) -> None:
    """The example deleted, a table and a route added, migrated: its test passes, and nothing dangles."""
    name = f"guide_{uuid4().hex}"
    servers.administer(f"CREATE DATABASE {name}")
    environment = environment_with(DATABASE_URL=servers.url("direct", name).render(), PYTHONPATH=str(tree))
    steps = _steps()
    assert len(steps) >= 12
    for kind, block in steps:
        _take(tree, kind, block, environment)
    assert servers.administer("SELECT count(*) FROM notes", name) == [(0,)]
    served = [path for room in ("api", "lib") for path in (tree / room).rglob("*.py")]
    assert [path.name for path in served if re.search(r"lib\.example|api\.example", path.read_text())] == []
    opened = "import api.index, api.aws_lambda; print(*api.index.app.openapi()['paths'])"
    _take(tree, "sh", f'.venv/bin/python -c "{opened}"', environment)
    _take(tree, "sh", CHECK, environment)
    servers.administer(f"DROP DATABASE {name} WITH (FORCE)")
