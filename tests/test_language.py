"""The language of code, tests and pages: docstrings that name their subject, and the field's own terms."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.documents import blocks

PROJECT = Path(__file__).parent.parent
# Folders and files whose text is still to be rewritten; the list ends up empty.
PENDING: tuple[str, ...] = ()
# Written by programs from numbers that were measured earlier.
GENERATED = ("docs/benchmarks/README.md", "docs/promises.md", "docs/licences.md")
HERE = "tests/test_language.py"
MOST_QUESTION_BEGINNINGS = 0.02

QUESTION_WORD = re.compile(r"(What|Who|Whoever|Whose|Whether|Where|How|Whatever|Wherever|However|Nobody)\b")
# Each term that was given up, with the field's own.
RETIRED = {
    r"doors?": "entrypoint",
    r"corridors?": "request path",
    r"rooms?(?! (for|of|in|left|to spare))": "module, package",
    r"companions?": "guard",
    r"passengers?|travell?ers?": "deferred statement",
    r"board(s|ed|ing)": "buffer",
    r"depart(s|ed|ing)?": "send",
    r"(?<!ROLE )strangers?": "unauthenticated client",
    r"crowds?": "concurrent clients",
    r"loans?|lent|lend(s|ing)?|borrow(s|ed|ers?|ing)?": "checkout, checked out",
    r"hung up|hang(s|ing)? up|goodbye": "closed by the server",
    r"turn(s|ed) away": "rejected",
    r"tally|tallies": "request stats",
    r"(?<!single )(?<!single-)flights?": "round trip, pipeline, preamble",
    r"whoever|nobody|somebody": "the name of the one who is meant",
    r"as ever|thaw(s|ed)?": "as usual, resume",
}
_RETIRED = {re.compile(rf"(?<![\w/.-])({word})(?![\w/-])", re.IGNORECASE): word for word in RETIRED}
# Code, and words that are quoted because they are somebody else's.
_BLOCK = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"\n]*\"|“[^”]*”|\]\([^)]*\)")


@dataclass(frozen=True)
class Text:
    """A docstring, comment, message or paragraph, and where it stands."""

    path: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {' '.join(self.text.split())[:90]}"


def texts_of_code(path: str, source: str) -> Iterator[Text]:
    """The docstrings, comments and messages of a Python file."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(source, path)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            docstrings.add(node.body[0].lineno)
            yield Text(path, node.body[0].lineno, "docstring", text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.lineno not in docstrings and _is_message(node.value):
            yield Text(path, node.lineno, "message", str(node.value))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(path, token.start[0], "comment", token.string.lstrip("# "))


def _is_message(value: object) -> bool:
    """A message has several words; a name, a path or a pattern is not for reading."""
    return isinstance(value, str) and re.search(r"[A-Za-z]+ [A-Za-z]+ [A-Za-z]+", value) is not None


def texts_of_page(path: str, source: str) -> Iterator[Text]:
    """The headings, paragraphs and tables of a page, without its blocks of code."""
    prose = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), source)
    for number, line in enumerate(prose.splitlines(), 1):
        if line.strip():
            yield Text(path, number, "heading" if line.startswith("#") else "prose", line.lstrip("# "))


def retired(text: Text) -> list[str]:
    """The words of a text that were given up, except in quotations and code."""
    prose = _QUOTED.sub("", text.text)
    return [found[0] for word in _RETIRED if (found := word.search(prose))]


def begins_with_a_question_word(text: Text) -> bool:
    """A sentence that begins so names the reader's question, not the thing."""
    return QUESTION_WORD.match(text.text) is not None and not text.text.split("\n")[0].endswith("?")


@cache
def project_texts(*, pending: bool = False) -> list[Text]:
    """Every text of the project that is written by hand."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py", "*.md"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    left_out = (HERE, *GENERATED, *(() if pending else PENDING))
    found: list[Text] = []
    for name in sorted({*listed.split("\0")} - {""}):
        if name.startswith(left_out) or not (PROJECT / name).is_file():
            continue
        read = texts_of_code if name.endswith(".py") else texts_of_page
        found += read(name, (PROJECT / name).read_text())
    return found


@pytest.mark.parametrize("kind", ["docstring", "comment", "heading"])
def test_texts_name_their_subject(kind: str) -> None:
    """At most one docstring in fifty begins with a question word instead of a noun or a verb."""
    texts = [text for text in project_texts() if text.kind == kind]
    offenders = [text for text in texts if begins_with_a_question_word(text)]
    shown = "\n".join(map(str, offenders))
    assert len(offenders) <= len(texts) * MOST_QUESTION_BEGINNINGS, f"of {len(texts)}:\n{shown}"


def test_no_text_uses_a_retired_word() -> None:
    """Docstrings, comments, messages and pages use the field's terms."""
    found = [(text, words) for text in project_texts() if (words := retired(text))]
    assert found == [], "\n".join(f"{text}  [{', '.join(words)}]" for text, words in found)


def test_pending_folders_exist() -> None:
    """A folder is taken off the list when it is done, and not forgotten when it moves."""
    assert [name for name in PENDING if not [*PROJECT.glob(f"{name.rstrip('/')}*")]] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('"""Two doors lead to one corridor."""', ["doors", "corridor"]),
        ("x = 1  # The passenger is boarding.", ["passenger", "boarding"]),
        ('raise ValueError("nobody returned the connection")', ["nobody"]),
        ('def f():\n    """Sent in one flight."""', ["flight"]),
        ('"""A connection that was lent."""', ["lent"]),
        ('"""Sums up what a crowd of strangers does."""', ["strangers", "crowd"]),
    ],
)
def test_a_retired_word_is_found(source: str, words: list[str]) -> None:
    """The search sees docstrings, comments and messages."""
    assert [word for text in texts_of_code("a.py", source) for word in retired(text)] == words


def test_a_retired_word_on_a_page_is_found() -> None:
    """Headings and paragraphs are read; blocks of code are not."""
    page = "# The doors\n\n```sh\nmake loans\n```\n\n| a | whoever asks |\n"
    found = [(text.line, retired(text)) for text in texts_of_page("a.md", page)]
    assert found == [(1, ["doors"]), (7, ["whoever"])]


@pytest.mark.parametrize(
    "text",
    [
        '"""One single flight a transaction; there is room for two."""',
        '"""Renamed from `Gate` and \\"door\\"; indoor, on board, hang."""',
        'path = "a/door/b"',
        "# The lender is a noun that names nothing here.",
    ],
)
def test_an_innocent_text_is_left_alone(text: str) -> None:
    """Quotations, code and other words that contain a retired one are not counted."""
    assert [word for each in texts_of_code("a.py", text) for word in retired(each)] == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("What leaves with the next statement.", True),
        ("Whether a pooler answers.", True),
        ("Whoever asks is answered.", True),
        ("Howitzer is another word.", False),
        ("The preamble of a transaction.", False),
        ("What is a pooler?", False),
    ],
)
def test_a_question_word_at_the_beginning_is_found(text: str, is_one: bool) -> None:  # noqa: FBT001
    """A beginning counts, except in a heading that asks in the reader's words."""
    assert begins_with_a_question_word(Text("a.py", 1, "docstring", text)) is is_one


def test_the_search_reads_something() -> None:
    """Pages and code are among what is searched."""
    kinds = {text.kind for text in project_texts(pending=True)}
    assert kinds == {"docstring", "comment", "message", "heading", "prose"}
    assert blocks(PROJECT / "README.md")
