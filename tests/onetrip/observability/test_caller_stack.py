"""Reports name the application's own lines, wherever its folder lies and whatever it is called."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy

from lib.onetrip.observability import caller_stack
from lib.onetrip.observability.caller_stack import Frames, application_lines, frames


def _called_from(path: str) -> Frames:
    """The frames seen by a function that a file at `path` calls."""
    found: dict[str, Frames] = {}
    program = compile("def route():\n    return look()\n\nfound['frames'] = route()\n", path, "exec")
    exec(program, {"look": frames, "found": found})  # noqa: S102  (our own three lines)
    return found["frames"]


@pytest.mark.parametrize(
    "path",
    [
        "/home/me/fastapi-on-neon/api/routes/notes.py",
        "/home/me/asyncio/middleware.py",
        "/srv/uvicorn/app/contextlib.py",
        "/var/task/api/threading.py",
        "/home/me/sqlalchemy_shop/fastapi/models.py",
    ],
)
def test_own_code_is_named_in_any_checkout(path: str) -> None:
    """A folder or file that is named like a library hides nothing."""
    assert f"{path}:2 route" in application_lines(_called_from(path))


@pytest.mark.parametrize(
    "path", [sqlalchemy.__file__, contextlib.__file__, caller_stack.__file__, "<string>"], ids=str
)
def test_frames_of_libraries_are_left_out(path: str) -> None:
    """Lines of Python, of installed packages and of the package itself say nothing about the caller."""
    assert not any(line.startswith(path) for line in application_lines(_called_from(path)))
