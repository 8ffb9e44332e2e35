"""A migration that hurts running requests is found before it runs, and one that does not is left alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from dev.review import findings, main
from tests.onetrip.environment import PROJECT

ENV = """
from alembic import context
context.configure(dialect_name="postgresql", literal_binds=True)
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", None
def upgrade():
{body}
"""
BLOCK = "with op.get_context().autocommit_block():\n        "
TABLE = 'op.create_table("new", sa.Column("post_id", sa.Integer, primary_key=True))\n    '
KNOWN_BAD = {
    "a column that must have a value": 'op.add_column("posts", sa.Column("a", sa.Text, nullable=False))',
    "a default that differs by row": (
        'op.add_column("posts", sa.Column("a", sa.Uuid, server_default=sa.text("gen_random_uuid()")))'
    ),
    "a computed column": 'op.add_column("posts", sa.Column("a", sa.Integer, sa.Computed("id * 2")))',
    "a serial column": 'op.execute("ALTER TABLE posts ADD COLUMN n bigserial")',
    "not null on an old column": 'op.alter_column("posts", "title", nullable=False)',
    "another type": 'op.alter_column("posts", "id", type_=sa.BigInteger)',
    "a shorter text": 'op.alter_column("posts", "title", type_=sa.String(50))',
    "a default dropped": 'op.alter_column("posts", "created_at", server_default=None)',
    "a column dropped": 'op.drop_column("posts", "title")',
    "a column renamed": 'op.alter_column("posts", "title", new_column_name="heading")',
    "a table renamed": 'op.rename_table("posts", "articles")',
    "a table dropped": 'op.drop_table("posts")',
    "an index": 'op.create_index("posts_title_idx", "posts", ["title"])',
    "a unique index": 'op.create_index("posts_title_idx", "posts", ["title"], unique=True)',
    "an index dropped": 'op.drop_index("posts_title_idx")',
    "a foreign key": 'op.create_foreign_key("f", "posts", "users", ["author_id"], ["id"])',
    "a check": 'op.create_check_constraint("c", "posts", "id > 0")',
    "a unique constraint": 'op.create_unique_constraint("u", "posts", ["title"])',
    "a primary key": 'op.create_primary_key("p", "posts", ["id"])',
    "an exclusion": 'op.execute("ALTER TABLE posts ADD CONSTRAINT e EXCLUDE USING gist (id WITH =)")',
    "every row changed": 'op.execute("UPDATE posts SET title = lower(title)")',
    "rows deleted": 'op.execute("DELETE FROM posts")',
    "a table locked": 'op.execute("LOCK TABLE posts")',
    "a table emptied": 'op.execute("TRUNCATE posts")',
    "an index rebuilt": 'op.execute("REINDEX TABLE posts")',
    "a table moved": 'op.execute("ALTER TABLE posts SET TABLESPACE fast")',
    "a label renamed": "op.execute(\"ALTER TYPE role RENAME VALUE 'user' TO 'person'\")",
    "a type dropped": 'op.execute("DROP TYPE role")',
    "a limit lifted": 'op.execute("SET lock_timeout = 0")',
    "concurrently in a transaction": 'op.execute("CREATE INDEX CONCURRENTLY i ON posts (title)")',
    "concurrently beside others": (
        'op.add_column("posts", sa.Column("a", sa.Text))\n    '
        f'{BLOCK}op.create_index("i", "posts", ["a"], postgresql_concurrently=True)'
    ),
    "validated at once": (
        'op.create_check_constraint("c", "posts", "id > 0", postgresql_not_valid=True)\n    '
        'op.execute("ALTER TABLE posts VALIDATE CONSTRAINT c")'
    ),
}
KNOWN_GOOD = {
    "a nullable column": 'op.add_column("posts", sa.Column("a", sa.Text))',
    "a constant default": (
        'op.add_column("posts", sa.Column("a", sa.Text, nullable=False, server_default="x"))'
    ),
    "a longer life as text": 'op.alter_column("posts", "title", type_=sa.Text)',
    "null allowed": 'op.alter_column("posts", "title", nullable=True)',
    "a new table": f'{TABLE}op.create_index("i", "new", ["post_id"])',
    "a new table's foreign key": f'{TABLE}op.create_foreign_key("f", "new", "posts", ["post_id"], ["id"])',
    "an index by itself": f'{BLOCK}op.create_index("i", "posts", ["title"], postgresql_concurrently=True)',
    "a check for later": 'op.create_check_constraint("c", "posts", "id > 0", postgresql_not_valid=True)',
    "a validation by itself": 'op.execute("ALTER TABLE posts VALIDATE CONSTRAINT c")',
    "a function with updates in it": (
        'op.execute("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ UPDATE posts SET id = 1; $$")'
    ),
    "a constraint dropped": 'op.drop_constraint("c", "posts")',
    "a label added": "op.execute(\"ALTER TYPE role ADD VALUE 'guest'\")",
}
Sql = Callable[[str], str]


@pytest.fixture
def sql(tmp_path: Path) -> Sql:
    """The SQL of a migration whose upgrade is given."""

    def written(body: str) -> str:
        (tmp_path / "versions").mkdir()
        (tmp_path / "env.py").write_text(ENV)
        (tmp_path / "versions/0002_probe.py").write_text(REVISION.format(body=f"    {body}"))
        output = io.StringIO()
        config = Config(output_buffer=output)
        config.set_main_option("script_location", str(tmp_path))
        command.upgrade(config, "head", sql=True)
        return output.getvalue()

    return written


@pytest.mark.parametrize("body", KNOWN_BAD.values(), ids=KNOWN_BAD)
def test_what_hurts_is_found(sql: Sql, body: str) -> None:
    """Each is named with what it does and what to do instead."""
    assert list(findings(sql(body)))


@pytest.mark.parametrize("body", KNOWN_GOOD.values(), ids=KNOWN_GOOD)
def test_what_does_not_hurt_is_left_alone(sql: Sql, body: str) -> None:
    """A warning that is none would teach people to look away."""
    assert list(findings(sql(body))) == []


@pytest.mark.slow
def test_the_projects_own_migrations_hurt_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first creates everything that it touches."""
    monkeypatch.chdir(PROJECT)
    assert main(["base:0001"]) == 0
    assert capsys.readouterr().out == "Nothing that hurts running requests was found\n"
