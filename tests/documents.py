"""Parsing of the documents: their blocks, the commands in them, and the options of each command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parent.parent
DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])


class Command(NamedTuple):
    """A program with its subcommand (`osls deploy`) and its other arguments."""

    name: str
    arguments: tuple[str, ...]

    @property
    def options(self) -> set[str]:
        """The names of its long options."""
        return {each.partition("=")[0] for each in self.arguments if each.startswith("--")}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Each fenced block's kind and text."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [(kind, re.sub(f"^{indent}", "", text, flags=re.MULTILINE)) for indent, kind, text in found]


def spans(page: Path) -> list[str]:
    """The text of each inline span of code."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(page: Path) -> list[Command]:
    """The commands of a page's shell blocks, and those in spans that begin with one of its variables."""
    lines = [line for kind, text in blocks(page) if kind == "sh" for line in text.splitlines()]
    lines += [span for span in spans(page) if span.startswith("$")]
    return [_command(part) for line in lines for part in re.split(r" && | \| ", line) if _words(part)]


def _command(line: str) -> Command:
    program, *arguments = _words(line)
    name = program.removeprefix("$").rpartition("/")[2]
    if arguments and re.fullmatch("[a-z][a-z-]*", arguments[0]):
        name, *arguments = f"{name} {arguments[0]}", *arguments[1:]
    if arguments and name == "aws secretsmanager":
        name, *arguments = f"{name} {arguments[0]}", *arguments[1:]
    return Command(name, tuple(arguments))


def _words(line: str) -> list[str]:
    """A line's words, without its comment and the variables that are set for it."""
    words = shlex.split(line, comments=True)
    while words and re.match(r"[A-Za-z_]+=", words[0]):
        words.pop(0)
    return words
