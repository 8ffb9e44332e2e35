"""The project's own files: tracked files and those that git would add, without local ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deploy.toolbox import run


@dataclass(frozen=True)
class SourceTree:
    """The checkout at `root`."""

    root: Path

    @cached_property
    def files(self) -> list[str]:
        """Every file's path from the root: tracked, or new and not ignored."""
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=self.root)
        return sorted({name for name in listed.split("\0") if name and (self.root / name).is_file()})

    def copy(self, folder: Path, patterns: Sequence[str] = ("**/*",), without: Sequence[str] = ()) -> None:
        """Copy into `folder` what matches one of `patterns` and none of `without`."""
        for name in self.files:
            if _matches(name, patterns) and not _matches(name, without):
                copy = folder / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.root / name, copy)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.fullmatch(_expression(pattern), name) for pattern in patterns)


def _expression(pattern: str) -> str:
    """A shell pattern as a regular expression; `*` stays within a folder, `**/` does not."""
    parts = {"**/": "(?:.*/)?", "*": "[^/]*"}
    return "".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*)", pattern))
