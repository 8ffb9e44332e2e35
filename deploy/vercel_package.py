"""Vercel's package: what Vercel's own command line builds, from a copy of the tree and without an account."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.source import SourceTree
from deploy.toolbox import PYTHON_VERSION, TOOLS, ToolError, node_tool, run, search_path

KEPT_CACHE = TOOLS / "vercel-cache"


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
    _build(folder, variables)
    output = folder / ".vercel" / "output"
    _fit_for_any_environment(output / "builds.json")
    return output


def _build(folder: Path, variables: Mapping[str, str]) -> None:
    """Run Vercel's command line: with the packages of the last time if they suffice."""
    cache = folder / ".vercel" / "python" / "cache"
    build = (node_tool("vercel"), "build", "--yes", "--standalone")
    if KEPT_CACHE.exists():
        # The fixed folder of the builder's cache.
        cache.parent.mkdir(parents=True)
        shutil.move(KEPT_CACHE, cache)
    try:
        try:
            run(*build, folder=folder, variables={**variables, "UV_OFFLINE": "1"})
        except ToolError:
            run(*build, folder=folder, variables=variables)
    finally:
        if cache.exists():
            KEPT_CACHE.parent.mkdir(exist_ok=True)
            shutil.rmtree(KEPT_CACHE, ignore_errors=True)
            shutil.move(cache, KEPT_CACHE)
    # Only the output is deployed; the packages it was made from are several times its size.
    shutil.rmtree(cache.parent)


def _fit_for_any_environment(note: Path) -> None:
    """Forget that it was built for previews: nothing in it is, and production would refuse it."""
    builds = json.loads(note.read_text())
    del builds["target"]
    note.write_text(json.dumps(builds, indent=2))


def _build_variables(folder: Path) -> dict[str, str]:
    """Return the build variables of `vercel.json`, which Vercel's command line ignores."""
    configuration = json.loads((folder / "vercel.json").read_text())
    variables: dict[str, str] = configuration["build"]["env"]
    return variables
