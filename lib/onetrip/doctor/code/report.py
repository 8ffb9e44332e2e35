"""Mistakes as the doctor's findings, each under its file and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..result import Finding, warning, wrong
from .project import Project
from .rules import BY_ID, examine


def findings(root: Path) -> Iterator[tuple[str, Finding]]:
    """Each mistake in the code below `root`, or in that one file."""
    if not root.exists():
        yield "code", wrong(f"{root} is not there", "Name a folder or a file: --code .")
        return
    project, unreadable = Project.read(root)
    if not project.modules:
        yield "code", wrong(f"{root} holds no Python files", "Name the folder of the application.")
    for path in unreadable:
        yield path, warning("is no Python that could be read", "Mend it, or leave it out.")
    for place in examine(project):
        rule = BY_ID[place.rule]
        yield f"{place.path}:{place.line} {rule.id}", warning(rule.says, rule.remedy)
