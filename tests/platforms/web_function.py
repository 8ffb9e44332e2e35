"""A look-alike of AWS Lambda Web Functions, by their documented contract.

Host and port are in `AWS_LAMBDA_HTTP_ENDPOINT`; the server listens within 10 s; up to 128 requests are
served at once; SIGTERM, and a second later the end. Nothing else is in the environment: AWS's
documentation names no other variable.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from socket import create_connection

from lib.onetrip.testing.databases import free_port
from tests.onetrip.environment import clean_environment
from tests.onetrip.events import Request

INIT_SECONDS = 10
END_SECONDS = 1
MOST_AT_ONCE = 128


@dataclass
class WebFunction:
    """One execution environment."""

    process: subprocess.Popen[str]
    port: int

    @contextmanager
    def opened(self, request: Request) -> Iterator[HTTPResponse]:
        """Send a request; the block gets its response as it begins."""
        path = f"{request.path}?{request.raw_query}" if request.query else request.path
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(request.method, path, request.body or None, request.headers)
            with connection.getresponse() as response:
                yield response

    def ask(self, request: Request) -> tuple[int, str | None, bytes]:
        """Status, content type and body of the response."""
        with self.opened(request) as response:
            return response.status, response.headers["content-type"], response.read()

    def ask_at_once(self, requests: list[Request]) -> list[tuple[int, str | None, bytes]]:
        """The same for as many requests at once as one environment gets."""
        assert len(requests) <= MOST_AT_ONCE
        with ThreadPoolExecutor(len(requests)) as clients:
            return list(clients.map(self.ask, requests))

    def end(self) -> bool:
        """End it as AWS does; whether it ended by itself."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False
        return True


@contextmanager
def web_function(folder: Path, entrypoint: str, log: Path, **variables: str) -> Iterator[WebFunction]:
    """Run an execution environment in `folder`; what it prints goes to `log`."""
    port = free_port()
    environment = clean_environment(
        AWS_LAMBDA_HTTP_ENDPOINT=f"127.0.0.1:{port}", AWS_LAMBDA_PYTHON_ENTRYPOINT=entrypoint, **variables
    )
    server = [sys.executable, "-m", "tests.platforms.managed_server"]
    with (
        log.open("w") as output,
        subprocess.Popen(
            server, cwd=folder, env=environment, stdout=output, stderr=output, text=True
        ) as process,
    ):
        try:
            _wait_until_it_listens(process, port)
            yield WebFunction(process, port)
        finally:
            process.kill()


def _wait_until_it_listens(process: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + INIT_SECONDS
    while True:
        assert process.poll() is None, "the application cannot start"
        try:
            create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, "nothing listens"
            time.sleep(0.05)
        else:
            return
