"""The doctor called to patients with real complaints, in this process and in one of its own."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest

from lib.onetrip.doctor.__main__ import main
from lib.onetrip.pool.database import reset
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.servers import Servers
from tests.onetrip.tables import REVISIONS

ROLE = "patient"
# In every URL that has a password; nothing may ever print it.
CANARY = "hunter2-canary-of-the-doctor"
# The project that the doctor examines has one migration, and nothing else.
ALEMBIC = "[tool.alembic]\nscript_location = '%(here)s/migrations'\n"
MIGRATION = f"revision = {REVISIONS[-1]!r}\ndown_revision = None\n"
HBA = f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True)
class Visit:
    """The doctor's output."""

    code: int
    out: str
    marks: dict[str, str] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)
    remedies: dict[str, str] = field(default_factory=dict)

    def read(self) -> Visit:
        """The same with its lines taken apart, by the checks' ids."""
        name = ""
        for line in self.out.splitlines()[:-1]:
            if line.startswith("["):
                mark, (name, says) = line[1], line[4:].split(maxsplit=1)
                self.marks[name], self.says[name] = mark, says
            else:
                assert name not in self.remedies, f"a second remedy: {line}"
                self.remedies[name] = line.strip().removeprefix("→ ")
        return self


Doctor = Callable[..., Visit]


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Doctor]:
    """The doctor, called with arguments to a process that was given these variables, and built nothing."""
    (tmp_path / "pyproject.toml").write_text(ALEMBIC)
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "versions" / "tables.py").write_text(MIGRATION)

    def visit(*arguments: str, **variables: object) -> Visit:
        for name, value in variables.items():
            text = value.render(hide_password=False) if isinstance(value, DatabaseURL) else str(value)
            monkeypatch.setenv(name, text)
        reset()
        capsys.readouterr()
        code = main(arguments, tmp_path)
        said = capsys.readouterr()
        assert CANARY not in said.out + said.err
        assert said.err == ""
        return Visit(code, said.out) if "--json" in arguments else Visit(code, said.out).read()

    yield visit
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def role(servers: Servers) -> Iterator[str]:
    """A role with no rights but to log in, whose password the server checks."""
    servers.administer(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{CANARY}'")
    rules = servers.postgres.places.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(HBA + before)
    servers.administer("SELECT pg_reload_conf()")
    yield ROLE
    rules.write_text(before)
    servers.administer("SELECT pg_reload_conf()")
    servers.administer(f"DROP ROLE {ROLE}")


@pytest.fixture
def url(servers: Servers, role: str, database_name: str) -> DatabaseURL:
    """A migrated database, and a role that may do there what the application does."""
    servers.administer(f"GRANT SELECT ON alembic_version TO {role}", database_name)
    return DatabaseURL(role, CANARY, "127.0.0.1", servers.postgres.port, database_name)


@contextmanager
def deaf_host() -> Iterator[int]:
    """A port that takes every connection and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


@contextmanager
def talkative_host(says: bytes) -> Iterator[int]:
    """A port that sends the same bytes to each client, and closes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)

        def talk() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    with line, suppress(OSError):
                        line.sendall(says)
                        line.shutdown(socket.SHUT_WR)
                        line.recv(1024)

        thread = Thread(target=talk, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def dropping_host() -> Iterator[int]:
    """A port whose packets are dropped: the queue of connections is full, and none is accepted."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        knocking = [socket.socket() for _ in range(8)]
        for one in knocking:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for one in knocking:
            one.close()
