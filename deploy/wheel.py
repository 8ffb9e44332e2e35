"""The package `onetrip` as a wheel and a source distribution: `python -m deploy.wheel`.

lib/onetrip is staged as `src/onetrip`, and its tests with their imports as they are once it is installed.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from deploy.source import SourceTree
from deploy.toolbox import PROJECT, ToolError, run, uv

BUILT = PROJECT / "build" / "wheel"
STAGE = BUILT / "source"
_HERE = "lib/onetrip/"
# `lib.onetrip` in an import, a patched name or a logger's name; `lib/onetrip` in a path.
_NAME = re.compile(r"\blib\.onetrip\b")
_FROM_LIB = re.compile(r"\bfrom lib import onetrip\b")
# Here the tests' conftest is the application's.
_CONFTEST = '''"""The plugins of the package's tests."""

pytest_plugins = ["onetrip.testing.plugin", "tests.onetrip.servers"]
'''


def build() -> list[Path]:
    """Write the wheel and the source distribution into build/wheel."""
    shutil.rmtree(BUILT, ignore_errors=True)
    stage(STAGE)
    run(uv(), "build", "--quiet", "--out-dir", BUILT, STAGE)
    return sorted([*BUILT.glob("*.whl"), *BUILT.glob("*.tar.gz")])


def stage(folder: Path) -> None:
    """Copy into `folder` what the package is built from."""
    tree = SourceTree(PROJECT)
    for name in tree.files:
        if name.startswith(_HERE):
            _copy(name, folder / "src" / "onetrip" / name.removeprefix(_HERE))
        elif name.startswith("tests/onetrip/"):
            _copy(name, folder / name)
            if name.endswith(".py"):
                _rename(folder / name)
    (folder / "tests" / "conftest.py").write_text(_CONFTEST)
    for name in ("deploy/onetrip/pyproject.toml", "deploy/onetrip/README.md", "LICENSE", "CHANGELOG.md"):
        _copy(name, folder / Path(name).name)


def _copy(name: str, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT / name, copy)


def _rename(test: Path) -> None:
    test.write_text(_NAME.sub("onetrip", _FROM_LIB.sub("import onetrip", test.read_text())))


def main() -> int:
    """Build, and name what was built."""
    try:
        for path in build():
            print(f"{path.relative_to(PROJECT)} ({path.stat().st_size / 1024:.0f} KiB)")
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
