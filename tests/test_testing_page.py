"""The snippets of docs/testing.md are files of a project, whose tests pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lib.onetrip.settings.settings import environment_with
from tests.documents import DOCS, blocks
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import Servers

PAGE = DOCS / "testing.md"
# The page's conftest has the plugin loaded by an installed package; here it is named.
OPTIONS = (
    "-p",
    "lib.onetrip.testing.plugin",
    "-p",
    "no:xdist",
    "-p",
    "no:schemathesis",
    "-p",
    "no:cacheprovider",
)


def test_what_the_page_shows_passes(servers: Servers, tmp_path: Path) -> None:
    """Each Python block is the file that its first line names; migrated by Alembic, all of them pass."""
    names = []
    for kind, text in blocks(PAGE):
        if kind == "python":
            first, rest = text.split("\n", 1)
            names.append(first.removeprefix("# "))
            (tmp_path / names[-1]).write_text(rest)
    (tmp_path / "pyproject.toml").write_text(
        (PROJECT / "pyproject.toml").read_text().replace("%(here)s", str(PROJECT))
    )
    server = f"--postgres-url={servers.url('direct').render(hide_password=False)}"
    command = [
        sys.executable,
        "-m",
        "pytest",
        *OPTIONS,
        server,
        "-o",
        "addopts=",
        "--rootdir",
        str(tmp_path),
        ".",
    ]
    environment = environment_with(PYTHONPATH=str(PROJECT))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert names[0] == "conftest.py"
    assert f"{len(names)} passed" in done.stdout, done.stdout
