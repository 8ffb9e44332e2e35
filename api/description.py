"""The API's description, completed by what clients are generated from: short names, tags, headers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

PREFIX = "/api/v1/"
TAGS = {
    "users": "People: oneself, and for moderators and administrators everybody.",
    "auth": "Registration, tokens, passwords.",
    "posts": "Texts that people write.",
    "tasks": "Things to do, with tags and statistics.",
    "tags": "Words on tasks.",
    "accounts": "Sample money.",
    "transfers": "Movements of sample money.",
}
_HEADERS = {
    "ETag": "the row's version, for If-Match",
    "Location": "where the new row is",
    "Link": "the first, the next and the previous page (RFC 8288)",
    "Retry-After": "seconds until another try",
    "WWW-Authenticate": "the challenge of RFC 6750",
    "X-Request-ID": "the request's id in the log",
    "Idempotency-Replayed": "true, if the answer is that of an earlier request of the key",
}


def complete_description(app: FastAPI) -> None:
    """Have the description say which headers answers carry, and what the tags mean."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                for status, response in operation["responses"].items():
                    named = ["X-Request-ID", *_named(method, path, status)]
                    response["headers"] = {name: _header(name) for name in named}
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _named(method: str, path: str, status: str) -> list[str]:
    if status == "401":
        return ["WWW-Authenticate"]
    if status in {"429", "503"}:
        return ["Retry-After"]
    if not path.startswith(PREFIX):
        return []
    one = path.endswith(("}", "/me"))
    if status == "201":
        made = [] if path.endswith("/bulk") else ["Location"]
        kept = [] if "/auth/" in path else ["Idempotency-Replayed"]
        return made + kept + (["ETag"] if made and kept and "transfers" not in path else [])
    if status == "200" and one and "transfers" not in path:
        return ["ETag"]
    return ["Link"] if status == "200" and method == "get" and "statistics" not in path and not one else []


def _header(name: str) -> dict[str, Any]:
    return {"description": _HEADERS[name], "schema": {"type": "string"}}
