"""The choice of the pooler that the tests run."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import CompletedProcess, run

from tests.onetrip import pgbouncer
from tests.onetrip.environment import PROJECT, clean_environment


def _version(chosen: object) -> CompletedProcess[str]:
    """The version that a process with this choice finds."""
    command = [sys.executable, "-c", "from tests.onetrip import pgbouncer; print(pgbouncer.version())"]
    environment = clean_environment(PGBOUNCER=str(chosen))
    return run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def test_a_pgbouncer_given_by_its_path_is_the_one_that_runs(tmp_path: Path) -> None:
    """PGBOUNCER leads the tests to a program of one's own."""
    program = tmp_path / "pooler"
    program.write_text("#!/bin/sh\necho PgBouncer 9.8.7\n")
    program.chmod(0o755)
    assert _version(program).stdout.split() == ["9.8.7"]
    assert pgbouncer.version() != "9.8.7"


def test_a_path_that_is_no_program_is_refused_with_its_name(tmp_path: Path) -> None:
    """No other pooler takes the place of one that is not there."""
    ended = _version(tmp_path / "nothing")
    assert ended.returncode
    assert f"PGBOUNCER: {tmp_path / 'nothing'} is no program." in ended.stderr
