"""A client that is generated from the API's description: typed, and of use."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from deploy.toolbox import PINS, run, uv_install
from tests.onetrip.served import served

STORY = Path(__file__).parent / "story.py"
# Else the generator lets ruff format what is thrown away.
CONFIGURATION = "post_hooks: []\n"


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the generator and what its clients import, and nothing else."""
    folder = tmp_path_factory.mktemp("generator")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    uv_install("--python", python, "--requirement", PINS / "api-client.txt")
    return python


@pytest.fixture
def program(app: FastAPI, generator: Path, tmp_path: Path) -> Path:
    """The story beside the client that it imports."""
    (tmp_path / "openapi.json").write_text(json.dumps(app.openapi()))
    (tmp_path / "configuration.yml").write_text(CONFIGURATION)
    where = ("--path", "openapi.json", "--output-path", "client", "--config", "configuration.yml")
    generate = (generator.parent / "openapi-python-client", "generate", "--meta", "none", *where)
    run(*generate, "--fail-on-warning", folder=tmp_path)
    story = tmp_path / STORY.name
    story.write_bytes(STORY.read_bytes())
    return story


@pytest.mark.parametrize("route", ["pooled"])
def test_a_client_is_generated_that_is_typed_and_works(app: FastAPI, generator: Path, program: Path) -> None:
    """Nothing of the description is left out, mypy finds no fault, and a whole story runs through it."""
    check = (sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--python-executable", generator)
    run(*check, "client", program.name, folder=program.parent)
    with served(app) as url:
        assert run(generator, program.name, url, folder=program.parent) == "told\n"
