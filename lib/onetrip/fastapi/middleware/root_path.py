"""The prefix under which clients reach the application: its routes and its links stand below it."""

from __future__ import annotations

import re
from functools import partial

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Headers that hold paths of the application's, and such a path in their values.
_LINKS = {
    "Location": re.compile(r"^(/(?!/).*)$"),
    "Content-Location": re.compile(r"^(/(?!/).*)$"),
    "Link": re.compile(r"(?<=<)(/(?!/)[^>]*)(?=>)"),
}


class RootPath:
    """Serves the application below a prefix: that of the setting, else the one that the server names.

    The setting is what clients see. The proxies in front may leave it in the path or remove it.
    """

    def __init__(self, app: ASGIApp, root_path: str | None) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (self._root_path or scope.get("root_path")) or scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if self._root_path:
            path = self._root_path + _path_within(scope, self._root_path)
            scope = {**scope, "root_path": self._root_path, "path": path}
        if root_path := scope.get("root_path", "").rstrip("/"):
            send = partial(_send_linked, send, root_path)
        await self._app(scope, receive, send)


def _path_within(scope: Scope, prefix: str) -> str:
    """The path without `prefix`, whether the server counts that as its own part of the path or not."""
    path = scope["path"]
    served = _removed(path, scope.get("root_path", "").rstrip("/"))
    within = _removed(path, prefix)
    return (within if within != path else _removed(served, prefix)) or "/"


def _removed(path: str, prefix: str) -> str:
    return path[len(prefix) :] if f"{path}/".startswith(f"{prefix}/") else path


async def _send_linked(send: Send, root_path: str, message: Message) -> None:
    """Send a message of the response, its links below `root_path`."""

    def linked(path: re.Match[str]) -> str:
        return root_path + _removed(path[1], root_path)

    if message["type"] == "http.response.start":
        headers = MutableHeaders(scope=message)
        for name, paths in _LINKS.items():
            if name in headers:
                headers[name] = paths.sub(linked, headers[name])
    await send(message)
