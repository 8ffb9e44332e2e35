"""`make new`: a copy of the tree becomes an application, and is lived in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.source import SourceTree
from lib.onetrip.settings.settings import environment_with
from tests.documents import DOCS, blocks
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import Servers

pytestmark = pytest.mark.slow

# The tests of the machine that stay.
MOST_OF_THEM = 400
LEFTOVERS = re.compile(
    r"fastapi-on-neon|FastAPI on Neon|FastAPIOnNeon|lib\.example|lib/example|api\.example(?!\.com)"
)
KEYS = re.compile(r"(?i)jwt|identity_")
TEST = re.compile(r"^\s*(?:async )?def test_", re.MULTILINE)


def _run(tree: Path, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = environment_with(PYTHONPATH=str(tree), **variables)
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def _python(
    tree: Path, *arguments: str, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    return _run(tree, sys.executable, *arguments, check=check, **variables)


def _texts(tree: Path) -> dict[str, str]:
    paths = (
        path for path in tree.rglob("*") if path.is_file() and not {".tools", "__pycache__"} & {*path.parts}
    )
    return {str(path.relative_to(tree)): path.read_text(errors="replace") for path in paths}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project's own files."""
    copy = tmp_path / "app"
    SourceTree(PROJECT).copy(copy)
    return copy


def _made(tree: Path, *options: str) -> dict[str, str]:
    """The texts of an application made from `tree`."""
    _python(tree, "-m", "dev.new", "my-app", *options)
    if (PROJECT / ".tools").exists() and not (tree / ".tools").exists():
        (tree / ".tools").symlink_to(PROJECT / ".tools")
    return _texts(tree)


def _on(servers: Servers) -> str:
    return f"--postgres-url={servers.url('direct').render(hide_password=False)}"


def _check(tree: Path) -> None:
    """The parts of `make check` but for the types, which take long, and the migrations, which are a test."""
    _python(tree, "-m", "ruff", "format", "--check", ".")
    _python(tree, "-m", "ruff", "check", ".")


def _named_after_the_template(texts: dict[str, str]) -> list[str]:
    """Files with the template's name, or of the example's; the licence of what stays names its authors."""
    return [name for name, text in texts.items() if LEFTOVERS.search(text) and not name.endswith("LICENSE")]


def _is_the_applications(name: str) -> bool:
    """True of what an application reads and deploys; the layer knows the word from others' code."""
    return not name.startswith(("tests/", "lib/onetrip/"))


def test_the_application_is_ones_own_and_works(tree: Path, servers: Servers) -> None:
    """Named, without the example and the template's pages; its tests pass, and most of the machine's stay."""
    texts = _made(tree)
    assert _named_after_the_template(texts) == []
    assert [name for name, text in texts.items() if KEYS.search(text) and _is_the_applications(name)] == []
    assert not {"docs", "benchmarks", "CHANGELOG.md", "tests/example", "dev/new.py"} & {
        *texts,
        *(name.partition("/")[0] for name in texts),
    }
    assert texts["README.md"].startswith("# my-app\n")
    assert sum(len(TEST.findall(text)) for name, text in texts.items() if "tests/" in name) >= MOST_OF_THEM
    _check(tree)
    _python(tree, "-m", "pytest", "-n", "0", "tests/test_notes.py", "tests/test_migrations.py", _on(servers))
    _python(tree, "-m", "pytest", "-n", "0", "--collect-only", "tests", "tests/packages")
    served = "import api.index, api.aws_lambda; print(*api.index.app.openapi()['paths'])"
    told = _python(tree, "-c", served, DATABASE_URL="postgresql://u:p@127.0.0.1/d", ENVIRONMENT="development")
    assert "/api/v1/notes" in told.stdout


def test_a_second_table_is_added_as_the_page_says(tree: Path, servers: Servers) -> None:
    """A model with an index and a foreign key has its migration written, named, known and run."""
    _made(tree)
    (model,) = [text for kind, text in blocks(DOCS / "use-it-in-your-app.md") if kind == "python"]
    path = tree / "lib" / "models.py"
    text = path.read_text().replace("import BigInteger, Identity", "import BigInteger, ForeignKey, Identity")
    path.write_text(text + "\n\n" + model.split("\n", 1)[1])
    name = "new_with_comments"
    servers.administer(f"CREATE DATABASE {name}")
    url = servers.url("direct", name).render(hide_password=False)
    try:
        _python(tree, "-m", "dev.migration", "add comments", DATABASE_URL=url, DATABASE_URL_UNPOOLED=url)
        _check(tree)
        _python(tree, "-m", "pytest", "-n", "0", "tests/test_migrations.py", _on(servers))
    finally:
        servers.administer(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_example_can_stay(tree: Path) -> None:
    """EXAMPLE=keep: the example and its tests are there under the new name, and are found."""
    texts = _made(tree, "--example", "keep")
    left = [
        name for name, text in texts.items() if "fastapi-on-neon" in text and not name.endswith("LICENSE")
    ]
    assert left == []
    assert "lib/example/models.py" in texts
    _check(tree)
    _python(tree, "-m", "pytest", "-n", "0", "--collect-only", "tests/example", "tests/onetrip/url")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["My App"], "is no name"), ([""], "is no name"), (["-x"], "usage"), (["a", "--layer", "npm"], "usage")],
)
def test_a_wrong_call_changes_nothing(tree: Path, arguments: Sequence[str], told: str) -> None:
    """An invalid name or option ends with a line and exit code 2."""
    before = _texts(tree)
    done = _python(tree, "-m", "dev.new", *arguments, check=False)
    assert done.returncode == 2
    assert told in done.stderr
    assert _texts(tree) == before


def test_work_that_is_not_committed_is_not_touched(tree: Path) -> None:
    """In a clone with changes nothing happens, so that `git checkout` can undo all of it."""
    git = shutil.which("git") or "git"
    _run(tree, git, "init", "--quiet")
    done = _python(tree, "-m", "dev.new", "my-app", check=False)
    assert done.returncode == 2
    assert "Commit or stash" in done.stderr
    assert (tree / "lib" / "example").exists()
