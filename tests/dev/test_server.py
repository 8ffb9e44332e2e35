"""`make dev` serves from a copy of the tree, says how to use it, keeps its data, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.request import Request, urlopen

import pytest

from lib.onetrip.testing.databases import free_port
from lib.onetrip.testing.postgres import LocalPostgres
from lib.onetrip.testing.postgres_files import Places
from tests.onetrip.environment import clean_environment
from tests.onetrip.network import until
from tests.onetrip.servers import Servers
from tests.platforms.processes import PEOPLE, Person, copy_of_the_tree, person

pytestmark = pytest.mark.slow

REGISTER = "/api/v1/auth/register"
PASSWORD = {"password": "difference engine"}
LIMIT_SECONDS = 120
CANARY = "s3cr3t-canary"


class DevServer:
    """A running dev server, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.lines: list[str] = []

    def says(self, text: str) -> str:
        """The next line with `text` in it, waited for."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended without saying {text!r}:\n{''.join(self.lines)}")

    def end(self, number: signal.Signals, *, group: bool = True) -> int:
        """Send a signal to the process, or to all of its group as a terminal does; return its exit code."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended and said all."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        return self.process.wait()

    def request(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    @property
    def is_gone(self) -> bool:
        """Return True if no process of its group is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    @property
    def port_is_free(self) -> bool:
        """Return True if its port is free."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return False
            return True


@contextmanager
def dev_server(
    folder: Path, someone: Person | None = None, variables: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[DevServer]:
    """Run `python -m dev.server` in `folder`, in a process group of its own; kill what is left of it."""
    someone = someone or Person()
    port = port or free_port()
    environment = clean_environment(**{"PORT": str(port), **(variables or {})})
    environment["PYTHONPATH"] = someone.environment.get("PYTHONPATH", "")
    with subprocess.Popen(
        [someone.python, "-m", "dev.server"],
        cwd=folder,
        env={**someone.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **someone.identity,
    ) as process:
        # Waiting for a line that never comes fails, instead of waiting for ever.
        limit = Timer(LIMIT_SECONDS, process.kill)
        limit.start()
        try:
            yield DevServer(process, port)
        finally:
            limit.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()


@contextmanager
def new_tree(*below: str) -> Iterator[Path]:
    """A copy of the tree in a folder that everyone may enter, or in folders `below` it."""
    top = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-"))
    top.chmod(0o755)
    try:
        folder = top.joinpath(*below)
        folder.mkdir(parents=True, exist_ok=True)
        yield copy_of_the_tree(folder)
    finally:
        shutil.rmtree(top)


@pytest.fixture(scope="module")
def someone(request: pytest.FixtureRequest) -> Iterator[Person]:
    """The user that starts the server: the tests' own, unless `for_everyone` is set."""
    with person(getattr(request, "param", "me")) as someone:
        yield someone


for_everyone = pytest.mark.parametrize("someone", PEOPLE, indirect=True)
for_root_only = pytest.mark.parametrize("someone", [name for name in PEOPLE if name != "me"], indirect=True)


@pytest.fixture(scope="module")
def tree(someone: Person) -> Iterator[Path]:
    """A tree of that person's, whose data is kept from test to test."""
    with new_tree() as folder:
        someone.own(folder)
        yield folder


@pytest.fixture
def fresh_tree() -> Iterator[Path]:
    """A tree in which nothing has run yet."""
    with new_tree() as folder:
        yield folder


def is_running(tree: Path) -> bool:
    """Return True if the tree's PostgreSQL runs."""
    return LocalPostgres(tree / ".postgres").is_running()


@for_everyone
def test_it_says_when_it_is_ready_and_what_to_try(someone: Person) -> None:
    """Each time one line says where, the next works when pasted; one before lets other programs in."""
    with new_tree() as tree:
        someone.own(tree)
        for start in ("first", "next"):
            with dev_server(tree, someone) as server:
                url = f"http://127.0.0.1:{server.port}"
                database = server.says("DATABASE_URL=").rpartition(" ")[2].strip()
                assert url in server.says("ready")
                assert start == "first" or _migrated(tree, someone, database)
                tasks = json.loads(_pasted(server.says("curl")))
                assert [task["priority"] for task in tasks["items"]] == ["urgent", "high"]
                assert "openapi.json" in _fetched(f"{url}/docs")
                assert 'href="status"' in _fetched(url)
                assert server.end(signal.SIGINT) == 0
                assert server.is_gone
            assert len([line for line in server.lines if "ready" in line]) == 1


def _migrated(tree: Path, someone: Person, database: str) -> bool:
    """Return True if Alembic, given the printed variable, finds a database that fits the models."""
    line = f"{database} {someone.python} -m alembic check"
    environment = {**clean_environment(), **someone.environment}
    done = subprocess.run(
        ["sh", "-c", line], cwd=tree, env=environment, capture_output=True, check=False, **someone.identity
    )
    return done.returncode == 0


def _pasted(line: str) -> str:
    """Return the output of the line in a shell."""
    if shutil.which("curl"):
        return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    form, login, url = re.findall(r"username=[^']*|http[^ |']*", line)
    with urlopen(login, form.encode()) as response:  # noqa: S310  (what the server itself printed)
        token = json.load(response)["access_token"]
    return _fetched(Request(url, headers={"Authorization": f"Bearer {token}"}))  # noqa: S310  (see above)


def _fetched(url: str | Request) -> str:
    with urlopen(url) as response:  # noqa: S310  (what the server itself printed)
        text: str = response.read().decode()
        return text


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGHUP, True)],
    ids=["Ctrl-C", "kill -INT", "kill", "closed terminal"],
)
def test_ended_from_outside_it_leaves_nothing(
    tree: Path, someone: Person, number: signal.Signals, *, group: bool
) -> None:
    """It ends on each signal without a complaint, and no process or lock file stays."""
    with dev_server(tree, someone) as server:
        server.says("ready")
        assert is_running(tree)
        assert server.end(number, group=group) == 0
        assert server.is_gone
    assert not is_running(tree)
    assert not (tree / ".postgres/data/postmaster.pid").exists()
    assert "Traceback" not in "".join(server.lines)


@pytest.mark.parametrize("moment", ["Starting PostgreSQL", "eeded", "ready"])
def test_ctrl_c_pressed_again_and_again_is_one(tree: Path, someone: Person, moment: str) -> None:
    """An impatient user neither cuts the orderly end short nor sees what each process thinks of it."""
    with dev_server(tree, someone) as server:
        server.says(moment)

        def pressed_until_it_ends() -> bool:
            with suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGINT)
            return server.process.poll() is not None

        until(pressed_until_it_ends)
        assert server.wait() == 0
        assert server.is_gone
    assert not is_running(tree)
    assert "Traceback" not in "".join(server.lines)


@pytest.mark.parametrize("moment", ["data.unfinished", "data/postmaster.pid", "data/base"])
def test_ctrl_c_during_the_start_leaves_nothing(fresh_tree: Path, moment: str) -> None:
    """Someone who changes their mind while the data is made finds no server later, and can start again."""
    with dev_server(fresh_tree) as server:
        until((fresh_tree / ".postgres" / moment).exists)
        assert server.end(signal.SIGINT) == 0
        assert server.is_gone
    assert not is_running(fresh_tree)
    assert "Traceback" not in "".join(server.lines)


def test_data_survives_a_restart_and_is_seeded_once(tree: Path, someone: Person) -> None:
    """Stored data is there the next time, and nothing is added to it."""
    with dev_server(tree, someone) as server:
        server.says("ready")
        user = {"username": f"user-{server.port}", "email": f"{server.port}@example.com", **PASSWORD}
        assert server.request("POST", REGISTER, user)["username"] == user["username"]
        server.end(signal.SIGINT)
    with dev_server(tree, someone) as server:
        server.says("Not seeded")
        server.says("ready")
        assert server.request("POST", REGISTER, user)["status"] == 409
        server.end(signal.SIGINT)


@for_everyone
def test_after_sigkill_the_next_start_takes_over(tree: Path, someone: Person) -> None:
    """A killed dev server takes the API with it, so its port is free; its PostgreSQL serves the next one."""
    with dev_server(tree, someone) as server:
        server.says("ready")
        server.process.kill()
        server.process.wait()
        until(lambda: server.port_is_free)
    lock = (tree / ".postgres/data/postmaster.pid").read_text()
    with dev_server(tree, someone, port=server.port) as server:
        server.says("ready")
        assert (tree / ".postgres/data/postmaster.pid").read_text() == lock
        assert server.request("GET", "/health/ready")["status"] == "ready"
        server.end(signal.SIGINT)
    assert not is_running(tree)


def test_two_in_the_same_tree_share_the_database(tree: Path, someone: Person) -> None:
    """A second one on another port uses the server of the first, and does not take it away."""
    with dev_server(tree, someone) as first, dev_server(tree, someone) as second:
        first.says("ready")
        second.says("ready")
        assert second.end(signal.SIGINT) == 0
        assert first.request("GET", "/health/ready")["status"] == "ready"
        assert first.end(signal.SIGINT) == 0
    assert not is_running(tree)


def test_a_change_of_the_source_is_served(tree: Path, someone: Person) -> None:
    """A saved file is served without a restart by hand, even after a version that could not run."""
    module = tree / "api/blank_application.py"
    source = module.read_text()
    with dev_server(tree, someone) as server:
        server.says("ready")
        module.write_text("this is no Python")
        server.says("The API ended")
        module.write_text(re.sub(r'VERSION = ".*"', 'VERSION = "changed"', source))
        server.says("api/blank_application.py changed")
        until(lambda: _version(server) == "changed")
        assert server.end(signal.SIGINT) == 0
        assert server.is_gone
    module.write_text(source)


def _version(server: DevServer) -> str | None:
    try:
        version: str = server.request("GET", "/health")["version"]
    except OSError:  # the port is closed in between
        return None
    return version


def test_a_port_in_use_is_said_before_anything_is_started(fresh_tree: Path) -> None:
    """The message names the port and the way out; no database is made for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with dev_server(fresh_tree, port=port) as server:
            assert server.wait() == 1
    assert server.lines == [
        f"Port {port} cannot be used: Address already in use. Choose another: make dev PORT=8001\n"
    ]
    assert not (fresh_tree / ".postgres").exists()


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [({"PORT": "many"}, "PORT: "), ({"DATABASE_POOL": "ocean"}, "DATABASE_POOL: ")],
)
def test_a_setting_that_cannot_be_used_is_said(
    fresh_tree: Path, variables: dict[str, str], complaint: str
) -> None:
    """A wrong variable ends the start with a line about it and exit code 2, and nothing runs on."""
    with dev_server(fresh_tree, variables=variables) as server:
        assert server.wait() == 2
    assert [line for line in server.lines if line.startswith(complaint)]
    assert "Traceback" not in "".join(server.lines)
    assert not is_running(fresh_tree)


def test_another_servers_variables_do_not_disturb(tree: Path, someone: Person) -> None:
    """Variables of libpq about another server concern neither the embedded server nor its clients."""
    elsewhere = {
        "PGHOST": "ep-cool-name-123456.eu-central-1.aws.neon.tech",
        "PGPORT": "6543",
        "PGSSLMODE": "require",
        "PGCHANNELBINDING": "require",
        "PGOPTIONS": "-c nonsense=1",
    }
    with dev_server(tree, someone, elsewhere) as server:
        server.says("ready")
        assert server.request("GET", "/health/ready")["status"] == "ready"
        server.end(signal.SIGINT)


@pytest.fixture
def named(servers: Servers, fresh_tree: Path) -> Callable[[str], dict[str, str]]:
    """The URL of a database of the test's own, named in the environment or in `.env`."""
    servers.administer("DROP DATABASE IF EXISTS dev WITH (FORCE)")
    servers.administer("CREATE DATABASE dev")
    url = servers.url("direct", "dev").render()

    def name(where: str) -> dict[str, str]:
        if where == "environment":
            return {"DATABASE_URL": url}
        (fresh_tree / ".env").write_text(f"DATABASE_URL={url}\n")
        return {}

    return name


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_given_database_is_used_and_none_is_started(
    fresh_tree: Path, named: Callable[[str], dict[str, str]], where: str
) -> None:
    """`DATABASE_URL` names a server on this machine: it is migrated and served, and no row is added to it."""
    with dev_server(fresh_tree, variables=named(where)) as server:
        server.says("ready")
        assert "/health" in server.says("curl")
        assert server.request("GET", "/health")["status"] == "healthy"
        assert server.end(signal.SIGINT) == 0
        assert server.is_gone
    assert not (fresh_tree / ".postgres").exists()


def test_a_database_that_does_not_answer_is_said_in_three_lines(fresh_tree: Path) -> None:
    """The lines say what was tried and name the doctor; there is no traceback, and no password."""
    url = f"postgresql://app:{CANARY}@127.0.0.1:{free_port()}/app"
    with dev_server(fresh_tree, variables={"DATABASE_URL": url}) as server:
        assert server.wait() != 0
    said = "".join(server.lines)
    assert "the database cannot be reached: " in said
    assert "make doctor" in said
    assert "Traceback" not in said
    assert CANARY not in said


def test_a_remote_database_is_neither_migrated_nor_seeded(fresh_tree: Path) -> None:
    """It may be production, with a migration that is not meant for it yet; its password is not shown."""
    url = f"postgresql://app:{CANARY}@db.example.invalid/app"
    with dev_server(fresh_tree, variables={"DATABASE_URL": url}) as server:
        server.says("left as it is")
        server.says("ready")
        assert server.request("GET", "/health/live")["status"] == "alive"
        assert server.end(signal.SIGINT) == 0
    assert CANARY not in "".join(server.lines)
    assert not (fresh_tree / ".postgres").exists()


@for_everyone
def test_a_path_too_long_for_a_socket_works(someone: Person) -> None:
    """The socket is put elsewhere, and nothing of it stays."""
    with new_tree(*["deep" * 10] * 3) as folder:
        someone.own(folder)
        with dev_server(folder, someone) as server:
            server.says("ready")
            assert server.request("GET", "/health/ready")["status"] == "ready"
            assert server.end(signal.SIGINT) == 0
        assert sorted(path.name for path in (folder / ".postgres").iterdir()) == [
            "data",
            "in-use.lock",
            "turn.lock",
        ]


@for_root_only
def test_roots_own_home_works(someone: Person) -> None:
    """If the server's user, which is not root, cannot reach the tree, the data lies in a printed place."""
    assert someone
    with new_tree("home", "project") as folder:
        folder.parent.chmod(0o700)
        places = Places(folder / ".postgres")
        try:
            with dev_server(folder) as server:
                assert str(places.data) in server.says("Starting PostgreSQL")
                server.says("ready")
                assert server.request("GET", "/health/ready")["status"] == "ready"
                assert server.end(signal.SIGINT) == 0
            assert not is_running(folder)
        finally:
            shutil.rmtree(places.home)
