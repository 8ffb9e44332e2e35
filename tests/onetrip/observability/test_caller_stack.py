"""Reports name the application's own lines, wherever its folder lies and whatever it is called."""

from __future__ import annotations

import contextlib
from typing import Any

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


def test_what_called_an_entry_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told of the frames around a function that calls the application's code."""
    monkeypatch.setattr(caller_stack, "_ENTRIES", set())
    program = compile("def entry():\n    return look()\n", "/srv/app/entry.py", "exec")
    names: dict[str, Any] = {"look": lambda: _called_from("/srv/app/within.py")}
    exec(program, names)  # noqa: S102  (our own two lines)
    assert any(line.startswith("/srv/app/entry.py") for line in application_lines(names["entry"]()))
    caller_stack.begins_below(names["entry"])
    lines = application_lines(names["entry"]())
    assert any(line.startswith("/srv/app/within.py") for line in lines)
    assert not any(line.startswith("/srv/app/entry.py") for line in lines)
