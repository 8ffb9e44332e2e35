"""Lambda's Runtime API with what AWS's emulator lacks: it freezes between events, and starts from snapshots.

For a snapshot the process is frozen rather than copied; all that it is told and asked is as with
SnapStart.
"""

from __future__ import annotations

import json
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.packages.runtimes import LambdaFunction, lambda_variables, running, runtime_client

WAIT_SECONDS = 60
SNAPSTART = "snap-start"
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
        self.idle = threading.Event()


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
            self.server.initialised.set()
            self.server.idle.set()
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


class Instance(LambdaFunction):
    """A function's one instance, which runs only while it has an event, as on Lambda."""

    api: RuntimeApi

    def restore(self) -> None:
        """Go on from the snapshot."""
        self._thaw()
        self.api.restored.set()
        self.freeze()

    def freeze(self) -> None:
        """Stop it once it waits for an event."""
        if not self.api.idle.wait(WAIT_SECONDS):
            raise RuntimeError(f"The function does not ask for an event:\n{self.log()}")
        self.process.send_signal(signal.SIGSTOP)

    def invoke(self, event: object) -> Any:
        self._thaw()
        self.api.idle.clear()
        self.api.events.put(json.dumps(event).encode())
        answer = json.loads(self.api.answers.get(timeout=WAIT_SECONDS))
        self.freeze()
        return answer

    def terminate(self) -> int:
        self._thaw()
        return super().terminate()

    def _thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def instance(function: Path, initialization: str = "on-demand", **variables: str) -> Iterator[Instance]:
    """Initialise the API's package and freeze it where Lambda does: with SnapStart, for the snapshot."""
    with RuntimeApi() as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        given = {
            **lambda_variables(function),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
            **variables,
        }
        with running(runtime_client("api.aws_lambda.handler"), function, **given) as (process, log):
            started = Instance(process, log)
            started.api = api
            if not api.initialised.wait(WAIT_SECONDS):
                raise RuntimeError(f"The function was not initialised:\n{started.log()}")
            process.send_signal(signal.SIGSTOP)
            yield started
        api.shutdown()


@contextmanager
def restored(function: Path, **variables: str) -> Iterator[Instance]:
    """An instance that was restored from its snapshot."""
    with instance(function, SNAPSTART, **variables) as started:
        started.restore()
        yield started
