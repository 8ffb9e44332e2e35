"""The caller: the lines of the application's code that led to the current one, across greenlets."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from greenlet import getcurrent

_DEEPEST = 80
_SHOWN = 12
# Packages whose frames are left out. In a deployed package they lie beside the application's own code.
_LIBRARIES = (
    *("sqlalchemy", "psycopg", "psycopg_binary", "greenlet", "starlette", "fastapi", "anyio", "mangum"),
    *("pydantic", "uvicorn", "_pytest", "pluggy"),
)
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
_OWN_PACKAGE = str(Path(__file__).parent.parent)

# The code and the place in it, of which the line is found once it is printed: that takes a search in a table.
Frames = list[tuple[CodeType, int]]


# The code of functions that call an application's own: what called them says nothing about the caller.
_ENTRIES: set[int] = set()


def begins_below(*functions: Any) -> None:
    """Leave out, from now on, what called these functions: a frame that is looked at has to be made."""
    _ENTRIES.update(id(function.__code__) for function in functions)


def frames() -> Frames:
    """Return the caller's frames, innermost first, without the values of their variables."""
    found: Frames = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  (what `traceback` uses)
    inside: Any = None
    for _ in range(_DEEPEST):
        # An async session runs in a greenlet; the code that awaits it is in the parent greenlet.
        while frame is None:
            inside = (inside or getcurrent()).parent
            if inside is None:
                return found
            frame = inside.gr_frame
        code = frame.f_code
        if id(code) in _ENTRIES:
            break
        found.append((code, frame.f_lasti))
        frame = frame.f_back
    return found


def application_lines(found: Frames) -> list[str]:
    """Return the lines of the application's own code in `found`, innermost last."""
    folders = tuple(f"{folder}{os.sep}" for folder in _library_folders())
    lines = [
        f"{code.co_filename}:{_line_at(code, place)} {code.co_name}"
        for code, place in reversed(found)
        if not code.co_filename.startswith(("<", *folders))
    ]
    return lines[-_SHOWN:]


def _line_at(code: CodeType, place: int) -> int:
    lines = (line for begin, end, line in code.co_lines() if begin <= place < end and line)
    return next(lines, code.co_firstlineno)


def _library_folders() -> Iterator[str]:
    """Yield the folders of installed packages, of Python and of this package, as whole paths."""
    yield from _INSTALLED
    yield _OWN_PACKAGE
    for name in _LIBRARIES:
        if file := getattr(sys.modules.get(name), "__file__", None):
            yield str(Path(file).parent)
