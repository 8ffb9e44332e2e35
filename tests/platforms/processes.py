"""Processes as other people start them: with nothing of ours in the environment, as root or not."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.onetrip.testing.postgres_programs import is_reachable
from tests.onetrip.environment import PROJECT

# This user, and for root an ordinary user too.
PEOPLE = ("me", "nobody") if os.geteuid() == 0 else ("me",)
# Parts of Python's installation that no server needs.
IDLE_PARTS = ("test", "tests", "site-packages", "config-*", "idlelib", "ensurepip", "tkinter")


@dataclass(frozen=True)
class Person:
    """The user of a process, and its Python."""

    name: str = "me"
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """Arguments for `subprocess`."""
        if self.name == "me":
            return {}
        return {"user": self.name, "group": pwd.getpwnam(self.name).pw_gid, "extra_groups": []}

    def own(self, folder: Path) -> None:
        """Make a folder and all in it this person's."""
        if self.name != "me":
            entry = pwd.getpwnam(self.name)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)


def copy_of_the_tree(folder: Path) -> Path:
    """Copy the files that `make dev` needs into `folder`, without `.env` and data."""
    for name in ("api", "dev", "lib"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    shutil.copy2(PROJECT / "pyproject.toml", folder)
    return folder


@contextmanager
def person(name: str) -> Iterator[Person]:
    """Someone with a Python that they can reach: a copy, if this one lies in another's home."""
    packages = Path(sysconfig.get_path("purelib"))
    program = Path(os.path.realpath(sys.executable))
    if name == "me" or (is_reachable(packages, name) and is_reachable(program.parent, name)):
        yield Person(name)
        return
    folder = Path(tempfile.mkdtemp(prefix="onetrip-python-"))
    folder.chmod(0o755)
    try:
        _copy_python(program, folder)
        if not is_reachable(packages, name):
            packages = shutil.copytree(packages, folder / "packages", symlinks=True)
        environment = {"PYTHONPATH": str(packages), "LD_LIBRARY_PATH": str(folder / "lib")}
        yield Person(name, str(folder / "bin" / program.name), environment)
    finally:
        shutil.rmtree(folder)


def _copy_python(program: Path, folder: Path) -> None:
    base, library = Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))
    (folder / "bin").mkdir()
    shutil.copy2(program, folder / "bin")
    ignored = shutil.ignore_patterns(*IDLE_PARTS)
    shutil.copytree(library, folder / library.relative_to(base), ignore=ignored, symlinks=True)
    for shared in (base / "lib").glob("libpython*"):
        shutil.copy2(shared, folder / "lib")
