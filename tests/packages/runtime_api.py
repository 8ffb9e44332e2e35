"""Lambda's Runtime API with what AWS's emulator lacks: an instance that starts from a snapshot.

The process runs on rather than being copied; all that it is told and asked is as with SnapStart.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.packages.runtimes import LambdaFunction, lambda_variables, running, runtime_client

WAIT_SECONDS = 60
VERSION = "/2018-06-01/runtime"


class RuntimeApi(ThreadingHTTPServer):
    """Hands one event after another to one process."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.initialised = threading.Event()
        self.restored = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == f"{VERSION}/restore/next":
            self.server.initialised.set()
            self.server.restored.wait(WAIT_SECONDS)
            self._answer(200, b"")
        elif self.path == f"{VERSION}/invocation/next":
            self._answer(200, self.server.events.get())
        else:
            # An extension waits for events that never come.
            self.server.restored.wait(WAIT_SECONDS)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith(VERSION):
            self.server.answers.put(body)
        self._answer(200 if self.path.endswith("/register") else 202, b"{}")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes) -> None:
        headers = {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            "Lambda-Extension-Identifier": "waiting",
            "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + 29) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:api",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class SnapshotFunction(LambdaFunction):
    """A function that was initialised for a snapshot."""

    api: RuntimeApi

    def restore(self) -> None:
        """Go on from the snapshot."""
        self.api.restored.set()

    def invoke(self, event: object) -> Any:
        self.api.events.put(json.dumps(event).encode())
        return json.loads(self.api.answers.get(timeout=WAIT_SECONDS))


@contextmanager
def snapshot(function: Path, **variables: str) -> Iterator[SnapshotFunction]:
    """Initialise the API's package up to where Lambda takes the snapshot."""
    with RuntimeApi() as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        given = {
            **lambda_variables(function),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
            **variables,
        }
        with running(runtime_client("api.aws_lambda.handler"), function, **given) as (process, log):
            started = SnapshotFunction(process, log)
            started.api = api
            if not api.initialised.wait(WAIT_SECONDS):
                raise RuntimeError(f"The function was not initialised:\n{started.log()}")
            yield started
        api.shutdown()
