"""Vercel's package: what Vercel's own command line builds, from a copy of the tree and without an account."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from deploy.source import SourceTree
from deploy.toolbox import PYTHON_VERSION, node_tool, run, search_path


def build(folder: Path, tree: SourceTree, **more: str) -> Path:
    """Make `folder` a copy of the tree, build in it, and return where the output is.

    In a copy, because the build writes `uv.lock` and `.python-version` beside what it reads. Without a
    version of its own Vercel would choose its default, another one than Lambda's. `more` are variables
    of the build.
    """
    shutil.rmtree(folder, ignore_errors=True)
    tree.copy(folder)
    (folder / ".python-version").write_text(f"{PYTHON_VERSION}\n")
    (folder / ".vercel").mkdir()
    (folder / ".vercel" / "project.json").write_text('{"settings": {}}\n')
    variables = {
        "PATH": search_path(),
        "CI": "1",
        "NO_UPDATE_NOTIFIER": "1",
        "VERCEL_TELEMETRY_DISABLED": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        # A package is built without touching a database, whatever the caller's variables are.
        "VERCEL_ENV": "",
        **_build_variables(folder),
        **more,
    }
    run(node_tool("vercel"), "build", "--yes", "--standalone", folder=folder, variables=variables)
    # Only the output is deployed; the packages it was made from are several times its size.
    shutil.rmtree(folder / ".vercel" / "python")
    output = folder / ".vercel" / "output"
    _fit_for_any_environment(output / "builds.json")
    return output


def _fit_for_any_environment(note: Path) -> None:
    """Forget that it was built for previews: nothing in it is, and production would refuse it."""
    builds = json.loads(note.read_text())
    del builds["target"]
    note.write_text(json.dumps(builds, indent=2))


def _build_variables(folder: Path) -> dict[str, str]:
    """What `vercel.json` sets for builds on Vercel's machines; the command line passes over it."""
    configuration = json.loads((folder / "vercel.json").read_text())
    variables: dict[str, str] = configuration["build"]["env"]
    return variables
