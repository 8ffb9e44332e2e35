"""uv.lock is the one truth: pyproject.toml and requirements.txt say the same, and no bundle gets more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.onetrip.environment import PROJECT

NAME = "fastapi-on-neon"


def lock() -> Mapping[str, Mapping[str, Any]]:
    """The packages of uv.lock by name."""
    packages = tomllib.loads((PROJECT / "uv.lock").read_text())["package"]
    return {package["name"]: package for package in packages}


def pinned(lines: list[str]) -> dict[str, str]:
    """Versions by name."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in requirements}


def requirement_lines() -> list[str]:
    """The lines of requirements.txt that are requirements."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


Packages = Mapping[str, Mapping[str, Any]]


def brought(name: str, extras: list[str], packages: Packages) -> Iterator[tuple[str, list[str]]]:
    """The packages that one brings along on Linux, each with its extras."""
    package = packages[name]
    optional = package.get("optional-dependencies", {})
    dependencies = [*package.get("dependencies", []), *(d for e in extras for d in optional.get(e, []))]
    for dependency in dependencies:
        if not re.search(r"win32|Windows|cygwin|PyPy", dependency.get("marker", "")):
            yield dependency["name"], dependency.get("extra", [])


def test_the_lock_is_that_of_the_project() -> None:
    """A lock that is stale would be installed without a word."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    metadata = lock()[NAME]["metadata"]
    asked = [Requirement(line) for line in project["project"]["dependencies"]]
    locked = {(each["name"], each["specifier"]) for each in metadata["requires-dist"]}
    assert {(canonicalize_name(each.name), str(each.specifier)) for each in asked} == locked
    for group, lines in project["dependency-groups"].items():
        direct = [Requirement(line) for line in lines if isinstance(line, str)]
        names = {each["name"]: each["specifier"] for each in metadata["requires-dev"][group]}
        assert {canonicalize_name(each.name): str(each.specifier) for each in direct}.items() <= names.items()


def test_requirements_are_the_locks() -> None:
    """requirements.txt has what the project brings along by uv.lock, and no development package."""
    packages = lock()
    waiting = [(each["name"], each.get("extra", [])) for each in packages[NAME]["dependencies"]]
    found: dict[str, str] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, tuple(extras)) not in seen:
            seen.add((name, tuple(extras)))
            found[name] = packages[name]["version"]
            waiting.extend(brought(name, extras, packages))
    assert pinned(requirement_lines()) == found


def test_fastapis_command_line_finds_the_application() -> None:
    """`fastapi dev` and editors read where it is."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["tool"]["fastapi"]["entrypoint"] == "api.index:app"
