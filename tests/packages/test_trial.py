"""A package that cannot start is not built: each is started and asked before `make package` ends."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import trial
from deploy.__main__ import ARCHITECTURE, BUILD
from deploy.toolbox import ToolError

Change = Callable[[str, bytes], bytes | None]


def changed(name: str, folder: Path, change: Change) -> Path:
    """A built package with its files as `change` leaves them; None removes one."""
    made = folder / name
    with zipfile.ZipFile(BUILD / "lambda" / name) as package, zipfile.ZipFile(made, "w") as copy:
        for entry in package.infolist():
            content = change(entry.filename, package.read(entry))
            if content is not None:
                copy.writestr(entry, content)
    return made


@pytest.mark.parametrize(
    ("package", "missing"),
    [
        ("api", "mangum/"),
        ("api", "idna"),
        ("api", "psycopg_binary/"),
        ("migrate", "alembic/"),
        ("migrate", "mako/"),
    ],
)
def test_a_package_without_a_module_is_refused(tmp_path: Path, package: str, missing: str) -> None:
    """A dependency that was not installed is named, though every other check would pass."""
    made = changed(
        f"{package}-{ARCHITECTURE}.zip",
        tmp_path,
        lambda name, text: None if name.startswith(missing) else text,
    )
    with pytest.raises(ToolError, match=rf"{made.name} cannot start: .*{missing.rstrip('/')}"):
        trial.try_function(made)


@pytest.mark.parametrize("module", ["api/application", "api/routes/tasks"])
def test_a_package_whose_application_fails_is_refused(tmp_path: Path, module: str) -> None:
    """So is one whose code raises when it is imported, be it by a request for one of its routes."""
    folder, _, file = module.rpartition("/")

    def broken(name: str, text: bytes) -> bytes | None:
        if name.startswith(f"{folder}/__pycache__/{file}"):
            return None
        return text + b"\nraise RuntimeError('broken')\n" if name == f"{module}.py" else text

    with pytest.raises(ToolError, match="cannot start: RuntimeError: broken"):
        trial.try_function(changed(f"api-{ARCHITECTURE}.zip", tmp_path, broken))


def test_what_was_built_can_start(vercel_function: Path) -> None:
    """Both of this processor's packages and Vercel's function answer."""
    for name in ("api", "migrate"):
        trial.try_function(BUILD / "lambda" / f"{name}-{ARCHITECTURE}.zip")
    trial.try_vercel(vercel_function.parent.parent)


def test_the_other_processors_package_has_the_same_modules(tmp_path: Path) -> None:
    """Packages that cannot be started here are compared with those that can."""
    other = "arm64" if ARCHITECTURE == "x86_64" else "x86_64"
    here = BUILD / "lambda" / f"api-{ARCHITECTURE}.zip"
    trial.compare(here, BUILD / "lambda" / f"api-{other}.zip")
    made = changed(
        f"api-{other}.zip", tmp_path, lambda name, text: None if name.startswith("idna/") else text
    )
    with pytest.raises(ToolError, match=r"differ by more than processors: .*idna"):
        trial.compare(here, made)
