"""`make migration` writes what the models have and the schema has not, formatted, and says what it found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.onetrip.environment import clean_environment
from tests.onetrip.servers import Servers
from tests.platforms.processes import copy_of_the_tree

pytestmark = pytest.mark.slow

MODELS = """

def _values(kind):
    return [member.value for member in kind]


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad's"


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id"), index=True)
    text: Mapped[str] = mapped_column(String(100), unique=True)
    mood: Mapped[Mood] = mapped_column(Enum(Mood, name="mood", values_callable=_values))
"""
SUBTITLE = """
    subtitle: Mapped[str | None] = mapped_column(String(200))
    shade: Mapped[str | None] = mapped_column(Enum("light", "dark", name="shade"))
"""


@dataclass(frozen=True)
class Tree:
    """A copy of the project with models of its own."""

    root: Path
    url: str

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a module of Python's in it."""
        environment = clean_environment(PYTHONPATH=str(self.root), DATABASE_URL=self.url, **variables)
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )

    def write(self, models: str) -> None:
        """Give it models beside the example's."""
        head = "from enum import StrEnum\nfrom sqlalchemy import Enum, ForeignKey, String\n"
        head += "from sqlalchemy.orm import Mapped, mapped_column\nfrom lib.models import Base\n"
        (self.root / "lib/example/notes.py").write_text(head + models)
        env = self.root / "lib/migrations/env.py"
        line = "from lib.example import notes  # noqa: F401\n"
        env.write_text(env.read_text().replace(line, "").replace("from lib.models", f"{line}from lib.models"))


@pytest.fixture
def tree(servers: Servers, tmp_path: Path) -> Iterator[Tree]:
    """The copy, and an empty database for it."""
    with servers.copy() as name:
        yield Tree(copy_of_the_tree(tmp_path), servers.url("direct", name).render())


def test_a_migration_is_written_from_the_models(tree: Tree) -> None:
    """Tables, columns, indexes, foreign keys, enums: it goes up, is the models, goes down and up."""
    tree.write(MODELS)
    done = tree.run("dev.migration", "add notes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  create table notes\n" in done.stdout
    assert "  create index notes_post_id_idx\n" in done.stdout
    assert (
        "Wrote lib/migrations/versions/0002_add_notes.py, and its number into lib/revisions.py."
        in done.stdout
    )
    assert 'REVISIONS = ("0001", "0002")' in (tree.root / "lib/revisions.py").read_text()
    tree.write(MODELS + SUBTITLE)
    done = tree.run("dev.migration", "a subtitle, and a shade")
    assert "  add column notes.subtitle\n  add column notes.shade\n" in done.stdout
    written = sorted((tree.root / "lib/migrations/versions").glob("*.py"))
    assert [path.name[:5] for path in written] == ["0001_", "0002_", "0003_"]
    formatted = [sys.executable, "-m", "ruff", "format", "--check", *map(str, written[1:])]
    assert subprocess.run(formatted, cwd=tree.root, check=False, capture_output=True).returncode == 0
    for command in (["upgrade", "head"], ["check"], ["downgrade", "0001"], ["upgrade", "head"], ["check"]):
        done = tree.run("alembic", *command)
        assert done.returncode == 0, done.stderr


def test_where_nothing_changed_nothing_is_written(tree: Tree) -> None:
    """Models and schema that agree need no migration; an empty one is written if it is asked for."""
    done = tree.run("dev.migration", "nothing")
    assert done.returncode == 1
    assert "there is nothing to migrate" in done.stdout
    assert len(list((tree.root / "lib/migrations/versions").glob("*.py"))) == 1
    done = tree.run("dev.migration", "move rows", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tree.root / "lib/migrations/versions/0002_move_rows.py").exists()


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "said"),
    [
        ([], {}, 2, 'M: is missing. Say what changes: make migration M="add subtitle"'),
        (["  "], {}, 2, "M: is missing."),
        (["x"], {"DATABASE_MODE": "both"}, 2, 'DATABASE_MODE: "both" is not supported.'),
        (
            ["x"],
            {"DATABASE_URL": "postgresql://u@db.example.com/d"},
            1,
            "It is not on this machine: left as it is.",
        ),
    ],
)
def test_a_wrong_call_is_a_line(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], code: int, said: str
) -> None:
    """Without a message, with wrong settings, or on a database elsewhere nothing is written."""
    tree = Tree(copy_of_the_tree(tmp_path), "postgresql://u@localhost/d")
    url = variables.pop("DATABASE_URL", tree.url)
    done = Tree(tree.root, url).run("dev.migration", *arguments, **variables)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
