"""`make dev`: a PostgreSQL of the project's own, migrated and seeded, and the API on it with reload.

The API runs in a process of its own, which is replaced when a source file changes, and which ends
when this one does, even by SIGKILL. What such an end leaves of PostgreSQL, the next start takes over.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread
from typing import NoReturn

from dev.child_process import python_child, wait_for_end_of
from dev.database import DevDatabase, dev_database, say, serving_environment
from dev.welcome import EXAMPLE, PREPARE, made_variables
from lib.onetrip.errors import SettingsError
from lib.onetrip.settings.settings import dev_port
from lib.onetrip.testing.postgres_programs import LocalPostgresError
from lib.onetrip.testing.signals import ENDING_SIGNALS

HOST = "127.0.0.1"
WATCHED = (Path("api"), Path("lib"))
POLL_SECONDS = 0.2
# For the requests under way when the server is told to stop.
GRACE_SECONDS = 3
MIGRATE = "import alembic.config; alembic.config.main(['upgrade', 'head'])"
SERVE_API = "from dev.server import serve_api; serve_api({port}, {{lifeline}})"


def main() -> int:
    """Serve until Ctrl-C; 0 if stopped by hand, else what the part that failed returned."""
    try:
        for number in ENDING_SIGNALS:
            # A closed terminal and a `kill` stop the servers as Ctrl-C does; `nohup` keeps them.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _interrupt)
        port = _usable_port()
        with dev_database() as given:
            database = given._replace(environment={**given.environment, **made_variables()})
            if code := _prepare(database):
                return code
            return _serve(serving_environment(database.environment), port, is_seeded=database.is_made)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201  (this is a program for a terminal)
        return 2
    except (LocalPostgresError, _PortError) as error:
        print(error, file=sys.stderr)  # noqa: T201  (this is a program for a terminal)
        return 1
    except KeyboardInterrupt:
        return 0


def serve_api(port: int, lifeline: int) -> None:
    """Serve the API until told to stop, or until the process that holds `lifeline` ends."""
    import uvicorn  # noqa: PLC0415  (this is the other process)

    def end_too() -> None:
        wait_for_end_of(lifeline)
        os._exit(1)

    Thread(target=end_too, daemon=True).start()
    from api.index import app  # noqa: PLC0415
    from dev.start_page import add_start_page  # noqa: PLC0415

    add_start_page(app)
    uvicorn.run(app, host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)


class _PortError(Exception):
    """The port cannot be served on; the message says why."""


def _usable_port() -> int:
    port = dev_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _PortError(
                f"Port {port} cannot be used: {error.strerror}. Choose another: make dev PORT=8001"
            ) from error
    return port


def _prepare(database: DevDatabase) -> int:
    """Migrate, seed what the project made, and return the exit code; a server elsewhere stays as it is."""
    if not database.is_local:
        say("It is not on this machine: left as it is. To migrate it: make migrate")
        return 0
    program = PREPARE if database.is_made else MIGRATE
    with python_child(database.environment, "-c", program) as process:
        return process.wait()


def _serve(environment: Mapping[str, str], port: int, *, is_seeded: bool) -> int:
    """Run the API, again after each change; return the exit code of one that never came up."""
    greeted = False
    while True:
        seen = _sources()
        with python_child(environment, "-c", SERVE_API.format(port=port)) as process:
            while process.poll() is None and _sources() == seen:
                if not greeted and _is_alive(port):
                    greeted = True
                    _greet(port, is_seeded=is_seeded)
                time.sleep(POLL_SECONDS)
            code = process.poll()
        if code is not None and not greeted:
            return code
        if code is not None:
            say("The API ended. Waiting for a change")
            while _sources() == seen:
                time.sleep(POLL_SECONDS)
        changed = sorted(str(path) for path, _ in seen ^ _sources())
        say(f"Reloading: {', '.join(dict.fromkeys(changed))} changed")


def _sources() -> set[tuple[Path, int]]:
    """The source files, each with the time it was written."""
    return {(path, _written(path)) for folder in WATCHED for path in folder.rglob("*.py")}


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # removed since it was listed, or an editor's lock: a link to nowhere
        return 0


def _is_alive(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200  # noqa: PLR2004  (OK)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _greet(port: int, *, is_seeded: bool) -> None:
    url = f"http://{HOST}:{port}"
    say(f"ready on {url} (docs: {url}/docs, stop: Ctrl-C). Try:")
    say(f"  {EXAMPLE.format(url=url)}" if is_seeded else f"  curl {url}/health")


def _interrupt(*_: object) -> NoReturn:
    # Once is enough: a second signal would cut the orderly end short.
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
