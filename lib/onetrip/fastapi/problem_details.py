"""Every error as RFC 9457 `application/problem+json`, in one shape that repeats nothing secret."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, NamedTuple
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from ..errors import UsageError
from ..settings.settings import Settings
from ..sqlstate import Kind, classify, reason
from .concurrency import call

MEDIA_TYPE = "application/problem+json"
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
MAX_ERRORS = 50
MAX_LOCATION_LENGTH = 64
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

logger = logging.getLogger(__name__)


class _Answer(NamedTuple):
    status: int
    detail: str | None = None
    retry_after_seconds: int | None = None


_ANSWERS: dict[Kind, _Answer] = {
    Kind.ALREADY_EXISTS: _Answer(409, "Something with these values exists already."),
    Kind.STILL_REFERENCED: _Answer(409, "Something else still refers to this."),
    Kind.MISSING_REFERENCE: _Answer(422, "Something that this refers to does not exist."),
    Kind.INVALID_VALUE: _Answer(422, "A value is missing, malformed or out of range."),
    Kind.CONFLICT: _Answer(409, "Someone else changed the same data. Try again.", 1),
    Kind.TIMEOUT: _Answer(504, "The database did not answer in time."),
    Kind.UNAVAILABLE: _Answer(503, "The database is not available.", 2),
    Kind.BUSY: _Answer(503, "Others hold what this needs. Try again.", 1),
    Kind.UNKNOWN: _Answer(504, "It is unknown whether this was stored. Look before you try again."),
    Kind.READ_ONLY: _Answer(503, "The database takes no writes at the moment.", 5),
    Kind.INTERNAL: _Answer(500),
}


class Refusal(HTTPException):
    """A refusal of a kind of its own, which the problem's type names; `members` join the body."""

    def __init__(
        self,
        status_code: int,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status_code, detail, headers)
        self.kind = kind
        self.members = members


class InvalidPart(BaseModel):
    """A part of a request that is invalid, and why; never its value."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """The one shape of every error (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str | None = None
    instance: str = Field(examples=["/api/v1/tasks/7"])
    request_id: str
    errors: list[InvalidPart] | None = None


_REFERENCE = "#/components/schemas/{model}"
_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model=Problem.__name__)}}}
# The responses in the documentation of every operation; `install_handlers` adds the schemas they name.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be served", "content": _CONTENT},
    "5XX": {"description": "The service failed", "content": _CONTENT},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses in a route's documentation for the errors that it is known for."""
    return {status: {"description": _title(status), "content": _CONTENT} for status in statuses}


def install_handlers(app: FastAPI) -> None:
    """Answer refused and invalid requests with problems; the middleware answers everything else."""
    for kind, stock, handler in (
        (HTTPException, http_exception_handler, _refused),
        (RequestValidationError, request_validation_exception_handler, _invalid),
    ):
        # One of the application's own that is there already stays.
        if app.exception_handlers.get(kind, stock) is stock:
            app.add_exception_handler(kind, handler)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        _, schemas = models_json_schema([(Problem, "validation")], ref_template=_REFERENCE)
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def problem_response(
    scope: Mapping[str, Any],
    status: int,
    *,
    kind: str | None = None,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """A problem about the request in `scope`; `members` are added to the body as they are."""
    body = {
        "type": f"urn:problem:{kind}" if kind else "about:blank",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "instance": quote(_own_path(scope), safe="/:@!$&'()*+,;=", errors="replace"),
        "request_id": scope["state"]["request_id"],
        **members,
    }
    present = {name: value for name, value in body.items() if value is not None}
    return JSONResponse(present, status, headers, MEDIA_TYPE)


def _own_path(scope: Mapping[str, Any]) -> str:
    """The path as the application has it, below whatever prefix it is reached."""
    path: str = scope["path"]
    prefix = scope.get("app_root_path", scope.get("root_path", "")).rstrip("/")
    return path[len(prefix) :] if f"{path}/".startswith(f"{prefix}/") else path


async def answer_to(error: Exception, scope: Scope, settings: Settings) -> Response:
    """The problem that an unhandled error becomes; what is not the client's to know is only logged.

    An error that says nothing of the database goes to the application's own handler of `Exception`, if it
    has one.
    """
    if isinstance(error, HTTPException):
        return await _refused(Request(scope), error)
    fault = classify(error)
    kind = fault.kind if fault else Kind.INTERNAL
    answer = _ANSWERS[kind]
    if kind is Kind.INTERNAL:
        logger.error("unhandled error in request %s", scope["state"]["request_id"], exc_info=error)
        shown = isinstance(error, UsageError) and not settings.is_production
        own = await _own_answer(error, scope)
        return own or problem_response(scope, answer.status, detail=str(error) if shown else None)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        sqlstate = fault and fault.sqlstate
        what = (kind, scope["state"]["request_id"], reason(error))
        logger.warning("%s in request %s: %s", *what, extra={"fields": {"sqlstate": sqlstate}})
    wait = answer.retry_after_seconds
    headers = {"Retry-After": str(wait)} if wait else None
    return problem_response(scope, answer.status, kind=kind, detail=answer.detail, headers=headers)


async def _own_answer(error: Exception, scope: Scope) -> Response | None:
    """The answer of the application's handler of `Exception`, which Starlette would call outside."""
    handlers = getattr(scope.get("app"), "exception_handlers", {})
    handler = handlers.get(500) or handlers.get(Exception)
    if handler is None:
        return None
    try:
        answer = (
            handler(Request(scope), error)
            if iscoroutinefunction(handler)
            else call(handler, Request(scope), error)
        )
        response: Response | None = await answer
    except Exception:
        logger.exception("the handler of Exception failed in request %s", scope["state"]["request_id"])
        return None
    return response


def _title(status: int) -> str:
    """RFC 9110's name of the status, which not every Python has yet."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (registered for it)
    stock = error.detail == HTTPStatus(error.status_code).phrase
    detail = None if stock else error.detail
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    known = {"kind": error.kind, **error.members} if isinstance(error, Refusal) else {}
    return problem_response(request.scope, error.status_code, detail=detail, headers=headers, **known)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (registered for it)
    problems = error.errors()
    parts = [{"loc": _location(part["loc"]), "msg": part["msg"]} for part in problems[:MAX_ERRORS]]
    detail = f"{len(problems)} part{'s' if len(problems) > 1 else ''} of the request cannot be used."
    return problem_response(request.scope, 422, kind="invalid-request", detail=detail, errors=parts)


def _allowed_methods(request: Request) -> list[str]:
    """Every method that some route takes here; the router names those of the first route only."""
    scopes = [{**request.scope, "method": method} for method in METHODS]
    served = {
        scope["method"]
        for scope in scopes
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    }
    if "GET" in served:
        served.add("HEAD")
    return [method for method in METHODS if method in served]


def _location(loc: Sequence[str | int]) -> list[str | int]:
    return [part if isinstance(part, int) else str(part)[:MAX_LOCATION_LENGTH] for part in loc]
