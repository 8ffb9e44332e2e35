"""Routes that tell what reached them, and on which thread they ran."""

from __future__ import annotations

import gzip
import threading
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import func, select

from lib.onetrip.fastapi.sessions import AsyncSessionDep, SessionDep

router = APIRouter(prefix="/probe")


async def _loop_thread() -> int:
    return threading.get_ident()


LoopThreadDep = Annotated[int, Depends(_loop_thread)]


@router.api_route("/echo/{rest:path}", methods=["GET", "POST"])
async def echo(request: Request, rest: str, tag: Annotated[list[str], Query()] = []) -> dict[str, Any]:  # noqa: B006  (FastAPI copies it)
    """Everything that a client can say."""
    return {
        "method": request.method,
        "rest": rest,
        "query": request.query_params.multi_items(),
        "tags": tag,
        "body": (await request.body()).hex(),
        "content_type": request.headers.get("content-type"),
        "scheme": request.url.scheme,
    }


@router.get("/cookies")
async def cookies(request: Request, response: Response) -> dict[str, str]:
    """Those that came; two are set, and two headers of one name."""
    for name in ("first", "second"):
        response.set_cookie(name, f"{name}, of two", httponly=True)
        response.headers.append("link", f"</{name}>; rel={name}")
    return dict(request.cookies)


@router.get("/gzip")
async def compressed() -> Response:
    """Bytes that are no text, though their type is one."""
    body = gzip.compress(b"hello", mtime=0)
    return Response(body, media_type="text/plain", headers={"content-encoding": "gzip"})


@router.get("/large")
async def large(size: int, kind: str) -> Response:
    """A body of `size` bytes that is sent as it is, with each byte escaped in JSON, or in base64."""
    parts = {"text": b"a", "accented": "é".encode(), "escaped": b'"', "binary": b"\xff"}
    media_type = "image/png" if kind == "binary" else "text/plain"
    return Response(parts[kind] * (size // len(parts[kind])), media_type=media_type)


@router.get("/elsewhere")
async def elsewhere() -> Response:
    """A redirect without a body."""
    return RedirectResponse("/probe/sync?a=b%20c")


@router.get("/sync")
def sync_route(loop_thread: LoopThreadDep) -> dict[str, bool]:
    """Report whether a sync route runs on the loop's thread."""
    return {"on_loop_thread": threading.get_ident() == loop_thread}


@router.get("/sync-with-session")
def sync_route_with_session(loop_thread: LoopThreadDep, session: SessionDep) -> dict[str, bool]:
    """The same for one that has a session."""
    session.connection()
    return {"on_loop_thread": threading.get_ident() == loop_thread}


@router.get("/async")
async def async_route(loop_thread: LoopThreadDep) -> dict[str, bool]:
    """Report whether an async route runs on the loop's thread."""
    return {"on_loop_thread": threading.get_ident() == loop_thread}


@router.get("/sync-backend")
def sync_backend(session: SessionDep) -> int | None:
    """Which of the server's processes answers a sync session."""
    return session.scalar(select(func.pg_backend_pid()))


@router.get("/async-backend")
async def async_backend(session: AsyncSessionDep) -> int | None:
    """Which of the server's processes answers an async session."""
    pid: int | None = await session.scalar(select(func.pg_backend_pid()))
    return pid
