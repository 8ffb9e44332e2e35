"""pyproject.toml tells other programs where the application is."""

from __future__ import annotations

import tomllib

from tests.onetrip.environment import PROJECT


def test_fastapis_command_line_finds_the_application() -> None:
    """`fastapi dev` and editors read the entrypoint there."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["tool"]["fastapi"]["entrypoint"] == "api.index:app"
