"""The application as it is deployed: in a process of its own, behind a network that breaks."""

from __future__ import annotations

import base64
import http.client
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from deploy import lambda_package
from deploy.source import SourceTree
from lib.onetrip.url.database_url import DatabaseURL
from tests.example.conftest import authorization
from tests.onetrip.environment import JWT_ISSUER, JWT_SECRET_KEY, PROJECT
from tests.onetrip.events import Request, http_api
from tests.onetrip.servers import Servers
from tests.packages.runtime_api import Instance, instance
from tests.packages.runtimes import ARCHITECTURE, Runtime, uvicorn

# The seconds by which an answer may miss its deadline on a busy machine.
LATE_SECONDS = 4.0
CLIENT_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """A client's answer and its seconds; status 0 if the connection ended without an answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.content)

    @property
    def kind(self) -> str:
        """The type of the problem; empty for other answers."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        kind: str = self.json["type"]
        return kind.removeprefix("urn:problem:")

    @property
    def is_success(self) -> bool:
        """True if the answer reports success."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"{self.status} after {self.seconds:.1f} s: {self.content[:200]!r}"


class Application:
    """A running application, asked over HTTP or by Lambda's events."""

    def __init__(self, runtime: Runtime, port: int | None) -> None:
        self.runtime = runtime
        self.port = port

    @property
    def pid(self) -> int:
        """The process that holds it."""
        return self.runtime.pid

    def log(self) -> str:
        """The output so far."""
        return self.runtime.log()

    def requests(self) -> list[dict[str, Any]]:
        """Its own lines about requests so far, in the order in which they ended."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "request"]

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: int | None = None,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """The answer to one request, of which there may be many at once but on Lambda."""
        content = b"" if body is None else json.dumps(body).encode()
        sent = {**({"content-type": "application/json"} if content else {}), **headers}
        sent |= authorization(user) if user else {}
        begin = time.monotonic()
        status, found, said = self._exchange(Request(method, path, body=content, headers=sent))
        return Answer(status, found, said, time.monotonic() - begin)

    def _exchange(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        assert self.port is not None
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CLIENT_PATIENCE_SECONDS)
        try:
            connection.request(request.method, request.path, request.body or None, request.headers)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, response.read()
        except (OSError, http.client.HTTPException):
            return 0, {}, b""
        finally:
            connection.close()


class Function(Application):
    """The same behind Lambda's runtime client, frozen between events."""

    runtime: Instance

    def _exchange(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        path, _, query = request.path.partition("?")
        pairs = tuple((name, value) for name, _, value in (part.partition("=") for part in query.split("&")))
        event = http_api(Request(request.method, path, pairs if query else (), request.body, request.headers))
        answer = self.runtime.invoke(event)
        if "statusCode" not in answer:
            return 0, {}, json.dumps(answer).encode()
        body = answer.get("body") or ""
        content = base64.b64decode(body) if answer["isBase64Encoded"] else body.encode()
        headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
        return answer["statusCode"], headers, content


@dataclass(frozen=True)
class Deployment:
    """A migrated database of the test's own, and how the application is told of it."""

    servers: Servers
    database: str
    authority: Path
    # Unzips the built package once.
    unzipped: Callable[[], Path]

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        return self.servers.url("direct", self.database).connect_arguments()

    def connect(self) -> psycopg.Connection:
        """A connection that is none of the application's."""
        return psycopg.connect(**self._arguments, autocommit=True, application_name="observer")

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement behind the application's back."""
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def people(self, count: int = 1) -> list[int]:
        """New users, by id."""
        add = (
            "INSERT INTO users (username, email) SELECT 'user' || n, n || '@example.com' "
            "FROM (SELECT (SELECT count(*) FROM users) + g AS n FROM generate_series(1, %s) g) x RETURNING id"
        )
        return [row[0] for row in self.sql(add, count)]

    def accounts(self, owner: int, balances: list[str]) -> list[int]:
        """New accounts of the owner's, by id."""
        add = "INSERT INTO accounts (owner_id, name, balance) VALUES (%s, 'a', %s) RETURNING id"
        return [self.sql(add, owner, balance)[0][0] for balance in balances]

    def end_backends(self) -> None:
        """End every server process on the database but the observers', and wait until they are gone."""
        self.sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND application_name <> 'observer'"
        )

    def connections(self, condition: str = "true") -> int:
        """Count the application's connections to the database on the server."""
        counted: int = self.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            f"AND pid <> pg_backend_pid() AND application_name <> 'observer' AND {condition}"
        )[0][0]
        return counted

    def variables(self, port: int, *, mode: str = "pooled", tls: bool = True) -> dict[str, str]:
        """The variables that lead the application to the database by `port` of 127.0.0.1."""
        url = DatabaseURL("postgres", None, "127.0.0.1", port, self.database, {"gssencmode": "disable"})
        if tls:
            url = DatabaseURL(
                *("postgres", None, "127.0.0.1", port, self.database),
                {"gssencmode": "disable", "sslrootcert": str(self.authority)},
            )
        text = url.render(hide_password=False)
        return {
            "DATABASE_URL": text,
            "DATABASE_URL_UNPOOLED": text,
            "DATABASE_MODE": mode,
            "DATABASE_POOL": "tiny",
            **({"DATABASE_TLS": "verify-full"} if tls else {}),
            "JWT_SECRET_KEY": JWT_SECRET_KEY,
            "JWT_ISSUER": JWT_ISSUER,
            "ENVIRONMENT": "production",
            "OPS_TOKEN": "operators-token-0123456789",
        }

    @contextmanager
    def serving(self, port: int, **variables: str) -> Iterator[Application]:
        """The ASGI application under uvicorn, reaching the database by `port`."""
        mode, tls = variables.pop("mode", "pooled"), variables.pop("tls", "on") == "on"
        given = {**self.variables(port, mode=mode, tls=tls), **variables}
        with uvicorn(**given) as server:
            yield Application(server, server._port)  # noqa: SLF001  (its own tests need none)

    @contextmanager
    def function(self, port: int, **variables: str) -> Iterator[Application]:
        """The packaged function in AWS's runtime client, frozen between events."""
        mode, tls = variables.pop("mode", "pooled"), variables.pop("tls", "on") == "on"
        given = {**self.variables(port, mode=mode, tls=tls), **variables}
        with instance(self.unzipped(), **given) as started:
            yield Function(started, None)

    def through(self, door: str) -> Callable[..., AbstractContextManager[Application]]:
        """Return the way to start the application behind `door`: uvicorn or lambda."""
        return {"uvicorn": self.serving, "lambda": self.function}[door]


def package(folder: Path) -> Path:
    """The function of this very code, packaged as for Lambda and unzipped as Lambda does."""
    (function,) = (function for function in lambda_package.FUNCTIONS if function.name == "api")
    built = lambda_package.package(function, ARCHITECTURE, folder, SourceTree(PROJECT))
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "task")
    return folder / "task"
