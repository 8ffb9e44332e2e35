"""The caller: the lines of the application's code that led to the current one, across greenlets."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from itertools import takewhile
from operator import attrgetter, itemgetter
from pathlib import Path
from types import CodeType
from typing import Any

from greenlet import getcurrent

_DEEPEST = 80
# As many as most callers have.
_AT_ONCE = 32
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
_PLACE = attrgetter("f_code", "f_lasti")
_CODE = itemgetter(0)

# The code of functions that call an application's own: what called them says nothing about the caller.
_ENTRIES: set[int] = set()


def begins_below(*functions: Any) -> None:
    """Leave out, from now on, what called these functions."""
    _ENTRIES.update(id(function.__code__) for function in functions)


def frames() -> Frames:
    """Return the caller's frames, innermost first, without the values of their variables."""
    found: Frames = []
    try:
        while len(found) < _DEEPEST and _ENTRIES.isdisjoint(map(id, map(_CODE, found))):
            # By functions in C alone: each checkout asks for all of them.
            begin = len(found) + 1
            found += map(_PLACE, map(sys._getframe, range(begin, begin + _AT_ONCE)))  # noqa: SLF001  (what `traceback` uses)
    except ValueError:
        # The stack is no deeper. What was found before that is there.
        found += _outer_frames(_DEEPEST - len(found))
    return found


def _outer_frames(number: int) -> Iterator[tuple[CodeType, int]]:
    """Yield the frames around a greenlet: an async session runs in one, and what awaits it in its parent."""
    inside = getcurrent().parent
    while inside is not None:
        frame = inside.gr_frame
        while frame is not None and number:
            yield frame.f_code, frame.f_lasti
            if id(frame.f_code) in _ENTRIES:
                return
            frame, number = frame.f_back, number - 1
        inside = inside.parent


def application_lines(found: Frames) -> list[str]:
    """Return the lines of the application's own code in `found`, innermost last."""
    folders = tuple(f"{folder}{os.sep}" for folder in _library_folders())
    below = list(takewhile(lambda each: id(each[0]) not in _ENTRIES, found))
    lines = [
        f"{code.co_filename}:{_line_at(code, place)} {code.co_name}"
        for code, place in reversed(below)
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
