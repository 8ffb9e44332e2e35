"""AWS's two ways to a secret, on this machine: the services' own API (moto), and the extension's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3

REGION = "us-east-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}
TOKEN = "session-token-of-the-function"


@dataclass
class Store:
    """Stands between the application and moto: counts what is asked, and refuses when it is told to."""

    moto: tuple[str, int]
    asked: Counter[str] = field(default_factory=Counter)
    # The error codes of the next answers.
    errors: list[str] = field(default_factory=list)
    port: int = 0

    def client(self, service: str) -> Any:
        """A client of the services themselves, to arrange things with."""
        host, port = self.moto
        return boto3.session.Session().client(
            service,
            endpoint_url=f"http://{host}:{port}",
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    @contextmanager
    def running(self) -> Iterator[Store]:
        """Serve for the block, on a port of its own."""
        with _serving(self._handler()) as self.port:
            yield self

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(_Quiet):
            def do_POST(self) -> None:
                store.asked[self.headers["X-Amz-Target"].rpartition(".")[2]] += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if store.errors:
                    code = store.errors.pop(0)
                    self.answer(400, json.dumps({"__type": code, "message": "refused"}).encode())
                    return
                connection = HTTPConnection(*store.moto)
                connection.request("POST", self.path, body, dict(self.headers))
                response = connection.getresponse()
                self.answer(response.status, response.read())
                connection.close()

        return Handler


@dataclass
class Extension:
    """Stands in for the Parameters and Secrets extension: its paths, its token, its cache that goes stale."""

    secrets: dict[str, str]
    asked: Counter[str] = field(default_factory=Counter)
    # The texts of the next refusals.
    refusals: list[str] = field(default_factory=list)
    port: int = 0

    @contextmanager
    def running(self) -> Iterator[Extension]:
        """Serve for the block, on a port of its own."""
        with _serving(self._handler()) as self.port:
            yield self

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        extension = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                extension.asked[asked.path] += 1
                if extension.refusals:
                    self.answer(400, extension.refusals.pop(0).encode())
                elif self.headers["X-Aws-Parameters-Secrets-Token"] != TOKEN:
                    self.answer(401, b"the token is missing")
                else:
                    self.answer(*extension.answer(asked.path, parse_qs(asked.query)))

        return Handler

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        """The answer in the shape of the service that the path names."""
        if path == "/secretsmanager/get":
            answer: dict[str, Any] = {"SecretString": self.secrets[query["secretId"][0]]}
        elif path == "/systemsmanager/parameters/get" and query["withDecryption"] == ["true"]:
            answer = {"Parameter": {"Value": self.secrets[query["name"][0]]}}
        else:
            return 404, b"not found"
        return 200, json.dumps(answer).encode()


class _Quiet(BaseHTTPRequestHandler):
    """Answers, and says nothing of it on stderr."""

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
