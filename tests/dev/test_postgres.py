"""The server of `make dev` and of the tests: starts wherever it is put, is shared, and leaves nothing."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lib.onetrip.testing.postgres import LocalPostgres, running
from lib.onetrip.testing.postgres_programs import LocalPostgresError
from lib.onetrip.testing.signals import uninterrupted
from tests.onetrip.environment import clean_environment
from tests.onetrip.network import until
from tests.platforms.processes import PEOPLE, Person, copy_of_the_tree, person

pytestmark = pytest.mark.slow

ROOT_ONLY = [name for name in PEOPLE if name != "me"]
START = """
import sys
from pathlib import Path
from typing import Any
from lib.onetrip.testing.postgres import LocalPostgres, running
with running(LocalPostgres(Path(sys.argv[1]))):
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="fastapi-on-neon-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def answer(server: LocalPostgres, query: str = "SELECT 1") -> object:
    """Return the server's answer, by its unix socket."""
    with psycopg.connect(**server.url().connect_arguments(), autocommit=True) as connection:  # type: ignore[arg-type]
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        'it\'s a "folder"',
        "one, two",
        "größe",
        pytest.param("long-" * 25, id="too long for a socket"),
    ],
)
def test_it_runs_in_any_folder_and_keeps_its_data(folder: Path, name: str) -> None:
    """The server starts in a folder of any name, and a second start finds the stored data."""
    server = LocalPostgres(folder / name)
    with running(server):
        answer(server, "CREATE TABLE kept AS SELECT 42 AS number")
        assert server.is_running()
    assert not server.is_running()
    with running(server):
        assert answer(server, "SELECT number FROM kept") == 42
    assert not (server.places.data / "postmaster.pid").exists()
    assert server.places.socket_folder == server.places.data or not server.places.socket_folder.exists()


def test_only_its_owner_reaches_the_socket(folder: Path) -> None:
    """The server asks for no password, so its socket is closed to other users, and it has no port."""
    server = LocalPostgres(folder)
    with running(server):
        assert server.places.socket_folder.stat().st_mode & 0o077 == 0
        assert answer(server, "SHOW listen_addresses") == ""


def test_the_last_one_to_leave_stops_it(folder: Path) -> None:
    """Two who use the same server neither start it twice nor take it away from each other."""
    first, second = LocalPostgres(folder), LocalPostgres(folder)
    with ExitStack() as stays:
        stays.enter_context(running(first))
        process = answer(first, "SELECT pg_postmaster_start_time()::text")
        with running(second):
            assert answer(second, "SELECT pg_postmaster_start_time()::text") == process
        assert answer(first) == 1
    assert not first.is_running()


def test_two_who_come_first_start_one_server(folder: Path) -> None:
    """Of two that start at once in an empty folder one makes the data, and both use it."""
    command = [sys.executable, "-c", START, str(folder)]
    with ExitStack() as stays:
        both = [
            stays.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(2)
        ]
        assert [process.stdout and process.stdout.readline() for process in both] == [b"running\n"] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert not LocalPostgres(folder).is_running()


def test_a_server_left_behind_is_taken_over(folder: Path) -> None:
    """A process that is killed leaves its server, which the next one uses, and stops."""
    with subprocess.Popen(
        [sys.executable, "-c", START, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.kill()
    server = LocalPostgres(folder)
    assert server.is_running()
    before = answer(server, "SELECT pg_postmaster_start_time()::text")
    with running(server):
        assert answer(server, "SELECT pg_postmaster_start_time()::text") == before
    assert not server.is_running()


def test_a_crashed_server_starts_again(folder: Path) -> None:
    """A crash leaves a lock file with a process that is no more; the data is recovered."""
    server = LocalPostgres(folder)
    lock = server.places.data / "postmaster.pid"
    with running(server):
        answer(server, "CREATE TABLE kept AS SELECT 42 AS number")
        left = lock.read_text()
        os.kill(int(left.split()[0]), signal.SIGQUIT)  # ends at once, without writing anything
        until(lambda: not lock.exists())
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    lock.write_text(left.replace(left.split()[0], str(ended.pid), 1))
    with running(server):
        assert answer(server, "SELECT number FROM kept") == 42


def test_data_half_made_is_made_anew(folder: Path) -> None:
    """A first start that was killed does not spoil the second."""
    unfinished = folder / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    server = LocalPostgres(folder)
    with running(server):
        assert answer(server) == 1
    assert not unfinished.exists()


def test_a_lock_file_of_something_else_is_explained(folder: Path) -> None:
    """A process number that was given to another program meanwhile ends in a remedy, not in a riddle."""
    server = LocalPostgres(folder)
    with running(server):
        lines = (server.places.data / "postmaster.pid").read_text().splitlines()
    sleeper = subprocess.Popen(["sleep", "600"], **_identity(server))
    try:
        lock = server.places.data / "postmaster.pid"
        lock.write_text("\n".join([str(sleeper.pid), *lines[1:], ""]))
        with pytest.raises(LocalPostgresError, match="remove that file"):
            server.start()
    finally:
        sleeper.kill()
        sleeper.wait()


def _identity(server: LocalPostgres) -> dict[str, Any]:
    if server.process_user is None:
        return {}
    entry = pwd.getpwnam(server.process_user)
    return {"user": entry.pw_uid, "group": entry.pw_gid}


def test_what_the_environment_says_of_other_servers_is_ignored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`PGPORT` and its like, set for a server elsewhere, move neither this one nor its clients."""
    elsewhere = {"PGPORT": "6543", "PGDATA": str(folder / "nowhere"), "PGOPTIONS": "-c nonsense=1"}
    server = LocalPostgres(folder / "postgres")
    with monkeypatch.context() as environment:
        for name, value in elsewhere.items():
            environment.setenv(name, value)
        server.start()
    try:
        assert answer(server, "SHOW port") == "5432"
    finally:
        server.stop()


def test_what_went_wrong_is_said_with_what_was_logged(folder: Path) -> None:
    """A server that cannot start says why, and is not left behind."""
    server = LocalPostgres(folder, settings={"shared_buffers": "nonsense"})
    with (
        pytest.raises(LocalPostgresError, match=r'(?s)pg_ctl failed.*"shared_buffers": "nonsense"'),
        running(server),
    ):
        pass
    assert not server.is_running()


def test_a_signal_waits_until_the_block_is_over() -> None:
    """Ctrl-C while the server starts comes after it has started, so that it can be stopped."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with uninterrupted(signal.SIGTERM):
            # To this thread: to the process it could be delivered through another one.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert seen == []
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_the_start_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    """Interrupted while the data is made, the server starts, or it is stopped: nothing of it stays."""
    moments = ("in-use.lock", "data.unfinished", "data", "data/postmaster.pid")
    command = START.replace(
        "import sys", "import sys, signal; signal.signal(15, signal.default_int_handler)", 1
    )
    for order, moment in enumerate(moments):
        # A place of its own, in which nothing is left of the moment before.
        place = folder / str(order)
        with subprocess.Popen(
            [sys.executable, "-c", command, str(place)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            until((place / moment).exists)
            os.killpg(process.pid, number)
            process.wait(60)
        assert not LocalPostgres(place).is_running()


@pytest.fixture(params=ROOT_ONLY)
def someone(request: pytest.FixtureRequest) -> Iterator[Person]:
    """An ordinary user, where the tests run as root."""
    with person(request.param) as someone:
        yield someone


def run_as(someone: Person, folder: Path) -> subprocess.CompletedProcess[str]:
    """Start the server in `folder` and stop it at once, as someone else."""
    with tempfile.TemporaryDirectory() as place:
        tree = copy_of_the_tree(Path(place))
        tree.chmod(0o755)
        packages = someone.environment.get("PYTHONPATH", "")
        return subprocess.run(
            [someone.python, "-c", START, str(folder)],
            env=clean_environment(**someone.environment) | {"PYTHONPATH": f"{tree}:{packages}"},
            cwd=tree,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **someone.identity,
        )


def test_root_runs_an_ordinary_users_server_as_that_user(folder: Path, someone: Person) -> None:
    """Data made by an ordinary user stays theirs when root starts the server once."""
    home = folder / "postgres"
    home.mkdir()
    someone.own(home)
    assert run_as(someone, home).stdout == "running\n"
    server = LocalPostgres(home)
    with running(server):
        assert server.process_user == someone.name
    assert run_as(someone, home).stdout == "running\n"


def test_an_ordinary_user_is_told_that_the_data_is_roots(folder: Path, someone: Person) -> None:
    """After `sudo make dev` the ordinary user is told what to do."""
    with running(LocalPostgres(folder)):
        pass
    done = run_as(someone, folder)
    assert done.returncode == 1
    assert "belongs to another user. Run as that user, or remove" in done.stderr


@pytest.mark.usefixtures("someone")
def test_where_only_root_may_look_the_data_lies_elsewhere(folder: Path) -> None:
    """In root's own home the server, which is not root, gets a place of its own, and keeps its data there."""
    folder.chmod(0o700)
    server = LocalPostgres(folder)
    try:
        with running(server):
            answer(server, "CREATE TABLE kept AS SELECT 42 AS number")
        with running(LocalPostgres(folder)):
            assert answer(server, "SELECT number FROM kept") == 42
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(server.places.home)
