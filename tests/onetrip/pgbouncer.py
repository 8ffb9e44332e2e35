"""A real PgBouncer for the tests: the one on PATH, or Debian's package unpacked into `.tools`.

`PGBOUNCER` names another: the path of a program, or `newest` for that of Debian's newest release.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from lib.onetrip.testing.postgres_programs import is_reachable, unprivileged_user
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip import debian
from tests.onetrip.environment import PROJECT

CHOSEN = os.environ.get("PGBOUNCER", "")
NEWEST = "newest"
UNPACKED = PROJECT / ".tools" / "pgbouncer"
UNPACKED_NEWEST = UNPACKED.with_name("pgbouncer-newest")
START_SECONDS = 20


@dataclass(frozen=True)
class PgBouncer:
    """A pooler in transaction mode on 127.0.0.1:`port`, in front of the server at `server`."""

    folder: Path
    port: int
    server: DatabaseURL
    settings: Mapping[str, str] = field(default_factory=dict)

    def url(self, database: str = "postgres") -> DatabaseURL:
        """The URL of a database through this pooler."""
        return DatabaseURL(user="postgres", host="127.0.0.1", port=self.port, database=database)

    def show(self, what: str) -> list[dict[str, object]]:
        """The rows of one of the console's SHOW commands."""
        with self._console() as console, console.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return list(cursor.execute(f"SHOW {what}".encode()))

    def command(self, command: str) -> None:
        """Run a command of the console, such as PAUSE, RESUME or RELOAD."""
        with self._console() as console:
            console.execute(command.encode())

    def _console(self) -> psycopg.Connection:
        arguments = self.url("pgbouncer").connect_arguments()
        return psycopg.connect(**arguments, autocommit=True, cursor_factory=psycopg.ClientCursor)  # type: ignore[arg-type]

    def write_configuration(self) -> Path:
        """The configuration file, and the list of users who may log in without a password."""
        users = self.folder / "users.txt"
        users.write_text('"postgres" ""\n"app_caller" ""\n')
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(users),
            "admin_users": "postgres",
            "pool_mode": "transaction",
            "max_client_conn": "1000",
            "default_pool_size": "20",
            # The list that Neon's pooler accepts beside the usual; anything else is refused.
            "ignore_startup_parameters": "",
            **self.settings,
        }
        path = self.folder / "pgbouncer.ini"
        lines = [f"{name} = {value}" for name, value in options.items()]
        server = f"host={self.server.host}" + (f" port={self.server.port}" if self.server.port else "")
        path.write_text("\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *lines, ""]))
        return path


@contextmanager
def running(pgbouncer: PgBouncer) -> Iterator[PgBouncer]:
    """Run `pgbouncer` for the block."""
    user = unprivileged_user()
    pgbouncer.folder.mkdir(parents=True, exist_ok=True)
    configuration = pgbouncer.write_configuration()
    command, environment = program(pgbouncer.folder)
    with (pgbouncer.folder / "pgbouncer.log").open("w+") as log:
        process = subprocess.Popen(
            [*command, str(configuration)],
            env=environment,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_up(pgbouncer, process, log.name)
            yield pgbouncer
        finally:
            # From 1.23 on SIGTERM would wait for the clients to go.
            process.kill()
            process.wait()


def _wait_until_up(pgbouncer: PgBouncer, process: subprocess.Popen[bytes], log: str) -> None:
    for _ in range(START_SECONDS * 20):
        try:
            pgbouncer.show("VERSION")
        except psycopg.OperationalError:
            if process.poll() is not None:
                raise RuntimeError(f"PgBouncer did not start:\n{Path(log).read_text()}") from None
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise RuntimeError(f"PgBouncer did not answer within {START_SECONDS} s:\n{Path(log).read_text()}")


def program(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command that starts PgBouncer and its environment; a copy in `folder` where its user needs one."""
    if given := _given():
        return [given], dict(os.environ)
    install()
    unpacked, user = UNPACKED_NEWEST if CHOSEN else UNPACKED, unprivileged_user()
    if user and not is_reachable(unpacked, user):
        unpacked = shutil.copytree(unpacked, folder / "program", dirs_exist_ok=True)
    if CHOSEN:
        return debian.with_its_loader(unpacked / "pgbouncer"), dict(os.environ)
    return [str(unpacked / "usr/sbin/pgbouncer")], debian.environment(unpacked)


def version() -> str:
    """The version of the PgBouncer that the tests run."""
    with TemporaryDirectory() as folder:
        command, environment = program(Path(folder))
        run = subprocess.run(
            [*command, "--version"], env=environment, check=True, capture_output=True, text=True
        )
    return run.stdout.split()[1]


def _given() -> str | None:
    """The chosen program, else the system's, which Debian keeps where a user's PATH does not lead."""
    if not CHOSEN:
        return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/opt/homebrew/bin")
    if CHOSEN == NEWEST:
        return None
    if found := shutil.which(CHOSEN):
        return found
    raise RuntimeError(f"PGBOUNCER: {CHOSEN} is no program. Give the path of one, or {NEWEST}.")


def install() -> None:
    """Unpack Debian's package and what it needs into `.tools`, without touching the system."""
    if _given() or (UNPACKED_NEWEST if CHOSEN else UNPACKED).exists():
        return
    print("Fetching PgBouncer into .tools (seconds)", flush=True)
    if not debian.is_there():
        raise RuntimeError(
            "The tests need PgBouncer. Install it (brew install pgbouncer, dnf install pgbouncer, ...), "
            "or give a program's path: PGBOUNCER=/path/to/pgbouncer."
        )
    if not CHOSEN:
        debian.unpack("pgbouncer", UNPACKED)
        return
    try:
        debian.unpack_newest("pgbouncer", "usr/sbin/pgbouncer", UNPACKED_NEWEST)
    except (subprocess.CalledProcessError, StopIteration) as error:
        raise RuntimeError(
            f"PGBOUNCER: Debian's newest release is not to be had here ({error}). Give the path of a program."
        ) from error


if __name__ == "__main__":
    install()
