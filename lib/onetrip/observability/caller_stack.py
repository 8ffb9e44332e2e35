"""Who called: the lines of the application's own code that led to here, through greenlets too."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from greenlet import getcurrent

_DEEPEST = 80
_SHOWN = 12
# Whose frames say nothing about who called; a package's folder may lie anywhere.
_LIBRARIES = (
    *("sqlalchemy", "psycopg", "greenlet", "starlette", "fastapi", "anyio", "mangum", "uvicorn"),
    *("asyncio", "concurrent", "contextlib.py", "threading.py", "_pytest", "pluggy"),
    # Of our own what every request passes.
    *("middleware.py", "body_limit.py", "platform_route.py", "call_stack.py", "pool_watch.py"),
    "slow_queries.py",
)

Frames = list[tuple[CodeType, int]]


def frames() -> Frames:
    """Where the caller is, the innermost first, without keeping what its variables hold."""
    found: Frames = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  (what `traceback` uses)
    inside: Any = getcurrent()
    while len(found) < _DEEPEST:
        # Async sessions work in a greenlet; who awaits them stands in its parent.
        while frame is None and inside is not None:
            inside = inside.parent
            frame = inside.gr_frame if inside else None
        if frame is None:
            break
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def ours(found: Frames) -> list[str]:
    """The application's own lines among them, the innermost last."""
    lines = [
        f"{code.co_filename}:{line} {code.co_name}"
        for code, line in reversed(found)
        if not code.co_filename.startswith("<")
        and not any(f"/{library}" in code.co_filename for library in _LIBRARIES)
    ]
    return lines[-_SHOWN:]
