"""The wheel, installed alone in a fresh environment: it works, and the package's tests pass against it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import wheel
from deploy.toolbox import TOOLS, run, uv

# Parts of the tests that need no more than a minute; `make test-wheel` runs all of them.
QUICK = ("session", "testing", "test_errors.py", "test_public_face.py", "fastapi/test_problems.py")
WITHOUT_FASTAPI = ("url", "test_errors.py", "test_process.py", "test_public_face.py", "testing")
ENGINE = """
import importlib.util, onetrip
assert importlib.util.find_spec("fastapi") is None
print(onetrip.create_engine("postgres://user@127.0.0.1/db").dialect.driver)
from sqlalchemy import create_engine
print(create_engine("postgresql+onetrip://user@127.0.0.1/db").dialect.driver)
"""


@dataclass(frozen=True)
class Environment:
    """A fresh environment, and the folder with the package's tests."""

    python: Path
    source: Path

    def install(self, *requirements: str) -> None:
        """Install what a user would."""
        run(uv(), "pip", "install", "--quiet", "--python", self.python, *requirements)

    def run(self, *arguments: str) -> str:
        """Run Python where nothing of this repository can be imported; return what it prints."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.python, *arguments], cwd=self.source, env=kept, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout


@pytest.fixture(scope="module")
def built() -> Path:
    """The wheel."""
    (path,) = (path for path in wheel.build() if path.suffix == ".whl")
    return path


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and nothing else, beside the tests without the package's source."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "venv", folder / "venv")
    wheel.stage(folder / "source")
    (folder / "source" / "src").rename(folder / "not-imported")
    # PgBouncer, should it have been fetched already.
    TOOLS.mkdir(exist_ok=True)
    (folder / "source" / ".tools").symlink_to(TOOLS)
    made = Environment(folder / "venv" / "bin" / "python", folder / "source")
    made.install(str(built))
    return made


def test_an_engine_needs_no_web_framework(environment: Environment) -> None:
    """`create_engine` and the URL's scheme work where only the wheel is."""
    assert environment.run("-c", ENGINE).split() == ["onetrip", "onetrip"]


@pytest.mark.parametrize(("extras", "quick"), [("testing", WITHOUT_FASTAPI), ("fastapi,aws,testing", QUICK)])
def test_its_own_tests_pass_against_it(
    environment: Environment, built: Path, extras: str, quick: tuple[str, ...]
) -> None:
    """With its extras and the tests' own requirements nothing of this repository is needed, nor FastAPI."""
    environment.install(f"{built}[{extras}]", "--group", f"{environment.source}/pyproject.toml:tests")
    asked = os.environ.get("WHEEL_TESTS", "").split() or [f"tests/onetrip/{part}" for part in quick]
    workers = ("-n", "auto", "--dist", "loadfile")
    told = environment.run("-m", "pytest", "-p", "no:cacheprovider", *workers, *asked)
    assert " passed" in told or "100%" in told
