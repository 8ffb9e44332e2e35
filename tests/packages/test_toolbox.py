"""The tools of packaging are found in their usual places, or demanded by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import toolbox
from deploy.toolbox import PYTHON_VERSION, ToolError

NAME = f"python{PYTHON_VERSION}"


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing installed; on PATH are the empty folders `shims` and `bin`."""
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{tmp_path}/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    return tmp_path


@pytest.fixture
def real_python() -> Path:
    """The platforms' Python on this machine."""
    return toolbox.python()


def program(path: Path, text: str) -> None:
    """Write an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "folder",
    [
        "bin",
        ".pyenv/versions/3.13.9/bin",
        ".local/share/uv/python/cpython-3.13.1-linux-x86_64-gnu/bin",
        ".local/share/mise/installs/python/3.13.2/bin",
        ".asdf/installs/python/3.13.0/bin",
    ],
)
def test_python_is_found_where_it_is_installed(real_python: Path, bare_machine: Path, folder: str) -> None:
    """On PATH, or where version managers keep it; a shim that only complains is passed over."""
    program(bare_machine / "shims" / NAME, "echo not installed; exit 127")
    program(bare_machine / folder / NAME, f'exec {real_python} "$@"')
    assert toolbox.python.__wrapped__() == bare_machine / folder / NAME


def test_another_pythons_name_deceives_nobody(real_python: Path, bare_machine: Path) -> None:
    """A program of the right name and another version isn't taken."""
    del real_python
    program(bare_machine / "bin" / NAME, "echo 3.12")
    with pytest.raises(ToolError, match=r"^Python 3\.13 is needed: .* python install 3\.13$"):
        toolbox.python.__wrapped__()


@pytest.mark.parametrize(("version", "found"), [(None, "none"), ("v18.20.0", "18.20.0")])
def test_without_a_recent_node_the_message_names_it(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, found: str
) -> None:
    """If npm's tools cannot be installed, the message names the Node to install."""
    if version:
        program(bare_machine / "bin" / "node", f"echo {version}")
        program(bare_machine / "bin" / "npm", "exit 1")
    monkeypatch.setattr(toolbox, "TOOLS", bare_machine / "tools")
    with pytest.raises(ToolError, match=rf"^Node 20 or later with npm is needed: .* \(found: {found}\)"):
        toolbox.node_tool.__wrapped__("osls")


def test_a_program_that_is_missing_is_named(bare_machine: Path) -> None:
    """Instead of a stack trace: what could not be run."""
    with pytest.raises(ToolError, match=r"^git cannot be run: .* Install it"):
        toolbox.run("git", "status", folder=bare_machine)


def test_changed_pins_are_installed_anew(tmp_path: Path) -> None:
    """A folder that was installed from other pins is removed, so that the new ones are installed."""
    pins = tmp_path / "pins.txt"
    folder = tmp_path / "installed"
    folder.mkdir()
    pins.write_text("uv==1\n")
    toolbox._note_installed(folder, pins)  # noqa: SLF001  (what the installers share)
    assert toolbox._is_installed(folder, pins)  # noqa: SLF001
    pins.write_text("uv==2\n")
    assert not toolbox._is_installed(folder, pins)  # noqa: SLF001
    assert not folder.exists()
