"""`make dev`: a PostgreSQL of the project's own, migrated and seeded, and the API on it with reload."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from lib.local_postgres import LocalPostgres, LocalPostgresError, running
from lib.settings import dev_port, environment_with, is_given

HOST = "127.0.0.1"
FOLDER = Path(".postgres")
START_SECONDS = 60
STOP_SECONDS = 10


def main() -> int:
    """Serve until Ctrl-C; 0 if stopped by hand, else what the part that failed returned."""
    # A closed terminal and a `kill` stop the servers as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    port = dev_port()
    if not _is_free(port):
        return _fail(f"Port {port} is in use. Choose another: make dev PORT=8001")
    try:
        with _environment() as environment:
            for arguments in (["alembic", "upgrade", "head"], ["lib.example.seed"]):
                code = subprocess.run([sys.executable, "-m", *arguments], env=environment, check=False).returncode
                if code:
                    return code
            return _serve(environment, port)
    except LocalPostgresError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 0


@contextmanager
def _environment() -> Iterator[Mapping[str, str]]:
    """The environment of what follows: DATABASE_URL as given, or that of a server started for it."""
    if is_given("database_url") or is_given("database_url_unpooled"):
        _say("Using the database that DATABASE_URL names")
        yield environment_with()
        return
    server = LocalPostgres(FOLDER)
    _say(f"Starting PostgreSQL (data in {FOLDER}/)")
    with running(server):
        yield environment_with(DATABASE_URL=server.url().render(hide_password=False))
        _say("Stopping PostgreSQL; the data stays")


def _serve(environment: Mapping[str, str], port: int) -> int:
    command = ["uvicorn", "api.index:app", "--host", HOST, "--port", str(port), "--log-level", "warning"]
    reload = ["--reload", "--reload-dir", "api", "--reload-dir", "lib"]
    with subprocess.Popen([sys.executable, "-m", *command, *reload], env=environment) as process:
        try:
            if _wait_until_alive(process, port):
                _greet(port)
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait(STOP_SECONDS)
            return 0
        finally:
            process.kill()


def _wait_until_alive(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == 200  # noqa: PLR2004  (OK)
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    return False


def _greet(port: int) -> None:
    url = f"http://{HOST}:{port}"
    _say(f"ready on {url} (docs: {url}/docs, stop: Ctrl-C). Try:")
    _say(f"  curl '{url}/api/v1/tasks?sort=-priority&limit=2'")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  (this is a program for a terminal)


def _fail(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201  (this is a program for a terminal)
    return 1


if __name__ == "__main__":
    sys.exit(main())
