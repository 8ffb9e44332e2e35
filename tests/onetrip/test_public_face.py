"""The public face: few names, each documented, none of which costs anything before it is used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path

import pytest

import lib.onetrip.fastapi
from lib import onetrip
from tests.onetrip.environment import needs_fastapi

FACES = {"onetrip": onetrip, "onetrip.fastapi": lib.onetrip.fastapi}
NEEDING_FASTAPI = {"onetrip.fastapi"}
MOST_NAMES = 40
SLOW = ("sqlalchemy", "pydantic", "pydantic_settings", "psycopg", "fastapi", "starlette", "mangum", "boto3")


def documented_in_place(face: types.ModuleType, name: str) -> bool:
    """Return True if a class or function has a docstring; values are in the package's own docstring."""
    value = getattr(face, name)
    if inspect.isclass(value):
        return bool(value.__doc__) and value.__doc__ != getattr(value.__base__, "__doc__", None)
    if inspect.isfunction(value):
        return bool(value.__doc__)
    return f"`{name}`" in (face.__doc__ or "")


def test_there_are_few_names() -> None:
    """A user meets at most forty names, each once and in order."""
    names = [name for face in FACES.values() for name in face.__all__]
    assert len(names) == len(set(names)) <= MOST_NAMES
    assert all(face.__all__ == sorted(face.__all__, key=_by_case) for face in FACES.values())


def _by_case(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize(
    ("face", "name"),
    [
        pytest.param(face, name, marks=needs_fastapi if face in NEEDING_FASTAPI else ())
        for face in FACES
        for name in FACES[face].__all__
    ],
)
def test_each_name_is_documented(face: str, name: str) -> None:
    """`help` tells what each of the names is for."""
    assert documented_in_place(FACES[face], name), f"{face}.{name} needs a docstring"


@pytest.mark.parametrize("face", FACES)
def test_the_face_is_declared_once(face: str) -> None:
    """A type checker, the list and the lazy imports have the same names."""
    module = FACES[face]
    assert module.__file__
    tree = ast.parse(Path(module.__file__).read_text())
    checked = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        (alias.asname or alias.name): node.module
        for block in checked
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes: dict[str, str] = module._HOMES  # noqa: SLF001  (the table of the module itself)
    assert seen == homes
    assert set(module.__all__) == homes.keys()
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize(
    "face", [pytest.param(face, marks=needs_fastapi if face in NEEDING_FASTAPI else ()) for face in FACES]
)
def test_a_name_is_what_its_home_calls_so(face: str) -> None:
    """The object behind a name is that of the internal module; an unknown name is an AttributeError."""
    module = FACES[face]
    for name, home in module._HOMES.items():  # noqa: SLF001  (as above)
        assert getattr(module, name) is getattr(import_module(f".{home}", module.__name__), name)
    with pytest.raises(AttributeError, match=f"{module.__name__}.*no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize("face", FACES)
def test_importing_costs_nothing(face: str) -> None:
    """The import loads none of the large packages, so that a process may choose its own order."""
    name = FACES[face].__name__
    program = f"import sys; before = {{*sys.modules}}; import {name}; print(*({{*sys.modules}} - before))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.split())
    assert name in loaded
    assert not {each.partition(".")[0] for each in loaded} & set(SLOW)
    # Of the package itself no module but those on the way to this one.
    assert {each for each in loaded if each.startswith(onetrip.__name__)} == {onetrip.__name__, name}


def test_an_engine_needs_no_web_framework() -> None:
    """`create_engine` loads neither FastAPI nor AWS's library, nor does the rest of `onetrip`."""
    name = onetrip.__name__
    program = (
        f"import sys; from {name} import *; create_engine('postgresql://u@localhost/d'); print(*sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {each.partition(".")[0] for each in told.stdout.split()}
    assert "sqlalchemy" in loaded
    assert not loaded & {"fastapi", "starlette", "mangum", "boto3"}
