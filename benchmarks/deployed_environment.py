"""An environment of what is deployed and the peers' drivers, and of nothing else.

Packages that are only there for tests would be imported, too: PyJWT takes `cryptography` where it is
installed, which takes as long as a quarter of the application.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from functools import cache
from pathlib import Path

from tests.onetrip.environment import PROJECT


@cache
def python_in(folder: Path) -> str:
    """The interpreter of a new environment of requirements.txt and the group `bench` in `folder`."""
    venv.create(folder, with_pip=True)
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    packages = ["-r", str(PROJECT / "requirements.txt"), *groups["bench"]]
    python = str(folder / "bin" / "python")
    # By the pip of the environment that runs: it knows where packages are to be had.
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *packages]
    subprocess.run(install, check=True)
    return python
