"""A look-alike of Vercel's API for its command line, which records the deployment."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWERS: dict[str, dict[str, Any]] = {
    "/v2/user": {"user": {"id": "user", "username": "ada", "version": "northstar"}},
    "/teams/team_1": {"id": "team_1", "slug": "team", "name": "team"},
    "/v9/projects/prj_1": {"id": "prj_1", "name": "project", "accountId": "team_1", "settings": {}},
    "/v13/deployments": {
        "id": "deployment",
        "url": "project.example.com",
        "readyState": "READY",
        "alias": [],
        "aliasAssigned": 1,
    },
}


class VercelApi(ThreadingHTTPServer):
    """Answers on a port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.deployments: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: VercelApi

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/v13/deployments"):
            self.server.deployments.append(json.loads(body))
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        content = json.dumps(ANSWERS.get(self.path.partition("?")[0], {})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def vercel_api() -> Iterator[VercelApi]:
    """Answer for the block."""
    with VercelApi() as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        yield api
        api.shutdown()
