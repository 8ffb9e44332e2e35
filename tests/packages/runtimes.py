"""The platforms' own runtimes, each with a built package in it, asked over what the platform speaks."""

from __future__ import annotations

import base64
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deploy.toolbox import python, python_packages
from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY, PROJECT
from tests.onetrip.events import Request, http_api

# Lambda's name of this machine's processor.
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
# In it, a `sitecustomize` that registers an extension: only then does Lambda announce its end.
EXTENSION = Path(__file__).parent / "extension"
# Root writes into what is read-only; Lambda's user does not.
WITHOUT_ROOTS_OVERRIDE = (
    ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
)
START_SECONDS = 60
ANSWER_SECONDS = 60
# Members that differ from one request to the next on every platform.
VOLATILE = {"created_at", "updated_at", "latency_ms", "request_id"}
# Headers that do, and those by which servers say how they send a body and who they are.
VOLATILE_HEADERS = {"date", "x-request-id", "x-process-time", "server-timing", "content-length"}
SERVERS_HEADERS = {"server", "connection", "transfer-encoding"}


@dataclass(frozen=True)
class Urls:
    """One database by both its URLs, and which of them serves requests."""

    pooled: DatabaseURL
    direct: DatabaseURL
    route: str

    @property
    def variables(self) -> dict[str, str]:
        """The variables that a deployed function is given."""
        return {
            "DATABASE_URL": self.pooled.render(hide_password=False),
            "DATABASE_URL_UNPOOLED": self.direct.render(hide_password=False),
            "DATABASE_MODE": self.route,
            "JWT_SECRET_KEY": JWT_SECRET_KEY,
            "JWT_ISSUER": JWT_ISSUER,
        }


@dataclass(frozen=True)
class Answer:
    """An answer as a client sees it, without the parts that differ each time."""

    status: int
    headers: dict[str, str]
    body: object


class Runtime(ABC):
    """A running package."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process that holds the application."""
        return self.process.pid

    @abstractmethod
    def ask(self, request: Request) -> Answer:
        """Return the client's answer to `request`."""

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block the process does not run, as between two requests on either platform."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        """The output so far."""
        return self._log.read_text()

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self.process.terminate()
        return self.process.wait(ANSWER_SECONDS)


class Server(Runtime):
    """A process that speaks HTTP, behind a platform that speaks HTTPS."""

    def __init__(self, process: subprocess.Popen[str], log: Path, port: int) -> None:
        super().__init__(process, log)
        self._port = port

    @contextmanager
    def opened(self, request: Request) -> Iterator[http.client.HTTPResponse]:
        """Send a request; the block gets its response as it begins."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            target = f"{request.path}?{request.raw_query}" if request.query else request.path
            headers = {**request.headers, **self._platform_headers()}
            connection.request(request.method, target, request.body or None, headers)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def ask(self, request: Request) -> Answer:
        with self.opened(request) as response:
            return _answer(response.status, response.getheaders(), response.read())

    def _platform_headers(self) -> dict[str, str]:
        return {"x-forwarded-proto": "https"}


class VercelServer(Server):
    """Vercel's launcher, which learns of each invocation by headers that the application never sees."""

    seconds = 30.0
    reports: _Reports

    def log(self) -> str:
        """The output so far: of requests it goes to the platform, which learns to which one it belongs."""
        return super().log() + "".join(self.reports.logged)

    def _platform_headers(self) -> dict[str, str]:
        deadline = datetime.now(UTC) + timedelta(seconds=self.seconds)
        return {
            **super()._platform_headers(),
            "x-vercel-internal-invocation-id": "invocation",
            "x-vercel-internal-request-id": "7",
            "x-vercel-internal-deadline": deadline.isoformat(),
        }


class LambdaFunction(Runtime):
    """A Lambda package in AWS's runtime client, with any source of events."""

    def ask(self, request: Request) -> Answer:
        response = self.invoke(http_api(request))
        assert isinstance(response, dict), response
        body = response["body"]
        content = base64.b64decode(body) if response["isBase64Encoded"] else body.encode()
        cookies = [("set-cookie", cookie) for cookie in response.get("cookies") or ()]
        return _answer(response["statusCode"], [*response["headers"].items(), *cookies], content)

    @abstractmethod
    def invoke(self, event: object) -> Any:
        """Return the function's answer to `event`."""


class Emulator(LambdaFunction):
    """AWS's Runtime Interface Emulator, and in it AWS's runtime client and a Lambda package."""

    def __init__(self, process: subprocess.Popen[str], log: Path, port: int) -> None:
        super().__init__(process, log)
        self._port = port

    @property
    def pid(self) -> int:
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        (child,) = " ".join(children.read_text() for children in threads).split()
        return int(child)

    def invoke(self, event: object) -> Any:
        """Return the function's answer to `event`; text if it is no JSON, as after a timeout."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        try:
            return json.loads(text)
        except ValueError:
            return text


@contextmanager
def uvicorn(**variables: str) -> Iterator[Server]:
    """The source itself under uvicorn, as on a server of one's own."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "api.index:app", "--port", str(port)]
    with running(command, PROJECT, PYTHONPATH=str(PROJECT), **variables) as (process, log):
        _wait_for_port(port, process, log)
        yield Server(process, log, port)


@contextmanager
def vercel(function: Path, **variables: str) -> Iterator[VercelServer]:
    """Vercel's function, started by its own launcher, which reports its port through a socket."""
    configuration = json.loads((function / ".vc-config.json").read_text())
    launcher = configuration["handler"].partition(".")[0]
    given = {**configuration["environment"], "VERCEL": "1", "VERCEL_REGION": "iad1", **variables}
    with (
        _reports() as (path, reports),
        running([str(python()), f"{launcher}.py"], function, VERCEL_IPC_PATH=path, **given) as (
            process,
            log,
        ),
    ):
        server = VercelServer(process, log, reports.port(process, log))
        server.reports = reports
        yield server


@contextmanager
def web_function(function: Path, **variables: str) -> Iterator[Server]:
    """Lambda's package as a Web Function: by AWS's documentation, for it has no such runtime to download.

    The environment names the address to listen on and the application, and nothing else of the platform.
    """
    port = free_port()
    path = (function, python_packages("web-function"), PROJECT / "tests" / "platforms")
    given = {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "AWS_LAMBDA_HTTP_ENDPOINT": f"127.0.0.1:{port}",
        "AWS_LAMBDA_PYTHON_ENTRYPOINT": "asgi:api.index:app",
        **variables,
    }
    with running([str(python()), "-m", "managed_server"], function, **given) as (process, log):
        _wait_for_port(port, process, log)
        yield Server(process, log, port)


@contextmanager
def emulator(function: Path, handler: str = "api.aws_lambda.handler", **variables: str) -> Iterator[Emulator]:
    """A Lambda package in AWS's emulator, in the environment that Lambda provides."""
    program = python_packages("emulator", "--no-deps") / f"samcli/local/rapid/aws-lambda-rie-{ARCHITECTURE}"
    port = free_port()
    command = [
        *(str(program), "--log-level", "debug"),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{free_port()}"),
        *runtime_client(handler),
    ]
    given = {**lambda_variables(function), "AWS_LAMBDA_FUNCTION_TIMEOUT": "29", **variables}
    with running(command, function, **given) as (process, log):
        _wait_for_port(port, process, log)
        yield Emulator(process, log, port)


def runtime_client(handler: str) -> list[str]:
    """The command that runs AWS's runtime client."""
    return [str(python()), "-m", "awslambdaric", handler]


def lambda_variables(function: Path) -> dict[str, str]:
    """The variables that Lambda itself provides."""
    # The function's own files come before the runtime's.
    path = (function, python_packages("lambda-runtime"), EXTENSION)
    return {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "LAMBDA_TASK_ROOT": str(function),
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "fastapi-on-neon-preview-api",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    }


@contextmanager
def running(
    command: list[str], folder: Path, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run `command` for the block with PATH as the only variable of this process, and those of coverage.

    Nothing may be written where the files' own modes forbid it, be it by root.
    """
    command = [*WITHOUT_ROOTS_OVERRIDE, *command]
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **measured, **variables}
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, text=True, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process, Path(log.name)
        finally:
            process.terminate()
            # A stopped process would not hear of it.
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Reports:
    """Return the reports of Vercel's launcher: JSON objects, each ended by NUL."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._started = threading.Event()
        self._port = 0
        self.logged: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def port(self, process: subprocess.Popen[str], log: Path) -> int:
        """The port that it serves on; `RuntimeError` if it ended or took too long instead."""
        for _ in range(START_SECONDS * 20):
            if self._started.wait(0.05) or process.poll() is not None:
                break
        if not self._port:
            raise RuntimeError(f"Vercel's launcher did not come up:\n{log.read_text()}")
        return self._port

    def _listen(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as stream:
            rest = b""
            while data := stream.read1():
                *messages, rest = (rest + data).split(b"\0")
                for message in map(json.loads, messages):
                    if message["type"] in {"server-started", "unrecoverable-error"}:
                        self._port = message["payload"].get("httpPort", 0)
                        self._started.set()
                    elif message["type"] == "log" and message["payload"]["context"]["requestId"]:
                        self.logged.append(base64.b64decode(message["payload"]["message"]).decode())
        self._started.set()


@contextmanager
def _reports() -> Iterator[tuple[str, _Reports]]:
    # Not in pytest's folder: a socket's path must be short.
    folder = tempfile.mkdtemp(prefix="ipc-")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/s")
            listener.listen()
            yield f"{folder}/s", _Reports(listener)
    finally:
        shutil.rmtree(folder)


def _wait_for_port(port: int, process: subprocess.Popen[str], log: Path) -> None:
    for _ in range(START_SECONDS * 20):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    raise RuntimeError(f"No server listens on port {port}:\n{log.read_text()}")


def _answer(status: int, headers: Sequence[tuple[str, str]], content: bytes) -> Answer:
    kept: dict[str, str] = {}
    for name in (given.lower() for given, _ in headers):
        if name not in VOLATILE_HEADERS | SERVERS_HEADERS and not name.startswith("x-vercel-internal-"):
            # Several of a name are one, by HTTP; Lambda's client sends them so.
            kept[name] = ",".join(value for other, value in headers if other.lower() == name)
    is_json = content and "json" in kept.get("content-type", "")
    return Answer(status, kept, _stable(json.loads(content)) if is_json else content)


def _stable(value: object) -> object:
    if isinstance(value, dict):
        return {name: "…" if name in VOLATILE else _stable(part) for name, part in value.items()}
    return [_stable(part) for part in value] if isinstance(value, list) else value
