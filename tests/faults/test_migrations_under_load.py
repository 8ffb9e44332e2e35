"""Migrations meet each other, long transactions and requests: one waits or gives up, requests are served."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from lib.onetrip.settings.settings import environment_with
from tests.faults.deployment import LATE_SECONDS
from tests.onetrip.environment import PROJECT
from tests.onetrip.network import until

if TYPE_CHECKING:
    from tests.faults.conftest import Rows
    from tests.faults.deployment import Answer, Application, Deployment

DEADLINE_SECONDS = 5
ANSWER_SECONDS = 60
# As `make migrate` does, with one migration more that wants the whole table of posts.
REVISION = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "9999", {head!r}, None, None
def upgrade() -> None:
    op.execute("ALTER TABLE posts ADD COLUMN probe int")
"""
MIGRATE = """
import sys
from alembic import command
from alembic.config import Config
from argparse import Namespace
config = Config(cmd_opts=Namespace(x=sys.argv[2:]))
config.set_main_option("script_location", sys.argv[1])
command.upgrade(config, "head")
"""


def test_migrations_wait_or_give_up_while_requests_are_served(
    deployment: Deployment, application: Application, rows: Rows, tmp_path: Path
) -> None:
    """Behind a long transaction it gives up; then two at once both succeed, and all the while people read."""
    row = rows("migrations", 6, 6)
    migrations = _with_one_more(deployment, tmp_path)
    (person,) = deployment.people()
    with _served(application, person) as answers:
        with deployment.connect() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM posts")
            done = _started(deployment, migrations, "lock_timeout=2s")
            said = _said(done)
            row.count(done.returncode != 0 and "Another session uses" in said, said[-300:])
            row.count(not _migrated(deployment), "half migrated")
            reader.execute("COMMIT")
        both = [_started(deployment, migrations) for _ in range(2)]
        said = "".join(map(_said, both))
        row.count([process.returncode for process in both] == [0, 0], said[-300:])
        row.count(_migrated(deployment), "not migrated")
    wrong = [answer for answer in answers if answer.status not in {200, 503, 504}]
    slow = [answer for answer in answers if answer.seconds > DEADLINE_SECONDS + LATE_SECONDS]
    served = sum(answer.status == 200 for answer in answers)
    row.count(not wrong and not slow and served > 0, [str(answer) for answer in wrong + slow])
    row.note = f"{served:,} of {len(answers):,} reads were served meanwhile, the others told to try again"
    until(lambda: application.ask("GET", "/api/v1/posts", user=person).status == 200)
    row.count(kept=True)
    row.check()


@contextmanager
def _served(application: Application, person: int) -> Iterator[list[Answer]]:
    """Read posts and oneself for the length of the block; the answers."""
    answers: list[Answer] = []
    over = Event()

    def read(path: str) -> None:
        while not over.is_set():
            answers.append(application.ask("GET", path, user=person))

    with ThreadPoolExecutor(2) as clients:
        reading = [clients.submit(read, path) for path in ("/api/v1/posts", "/api/v1/users/me")]
        try:
            until(lambda: len(answers) > 10)
            yield answers
        finally:
            over.set()
        for done in reading:
            done.result()


def _with_one_more(deployment: Deployment, folder: Path) -> Path:
    ((head,),) = deployment.sql("SELECT version_num FROM alembic_version")
    migrations = shutil.copytree(PROJECT / "lib/migrations", folder / "migrations")
    (migrations / "versions/9999_probe.py").write_text(REVISION.format(head=head))
    return migrations


def _started(deployment: Deployment, migrations: Path, *options: str) -> subprocess.Popen[str]:
    url = deployment.servers.url("direct", deployment.database).render(hide_password=False)
    return subprocess.Popen(
        [sys.executable, "-c", MIGRATE, str(migrations), *options],
        cwd=PROJECT,
        env=environment_with(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url, PYTHONPATH=str(PROJECT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _said(migration: subprocess.Popen[str]) -> str:
    """Return its output until it ends, or is ended because it waits for ever."""
    try:
        return migration.communicate(timeout=ANSWER_SECONDS)[1]
    except subprocess.TimeoutExpired:
        migration.kill()
        return migration.communicate()[1]


def _migrated(deployment: Deployment) -> bool:
    return deployment.sql("SELECT version_num FROM alembic_version") == [("9999",)]
