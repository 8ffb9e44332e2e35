"""`make new NAME=my-app`: this clone becomes an application of one's own.

The files of `dev/starter` take the example's place, and everything that is about the template itself goes:
its pages, benchmarks, release and the tests of all that. EXAMPLE=keep keeps the example; LAYER=pip takes
the package onetrip from its wheel instead of `lib/onetrip`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.template import (
    EXAMPLES_OWN,
    EXAMPLES_PACKAGES,
    KEYS,
    LAYERS_TESTS,
    LEFT_ALONE,
    LINT,
    MENTIONS,
    NAME,
    NAMES_KEYS,
    TARGETS,
    TEMPLATE,
    TEMPLATES_OWN,
    TITLE,
)

STARTER = Path("dev/starter")


class NewError(Exception):
    """The clone cannot become an application; the message says why, and what to do."""


@dataclass(frozen=True)
class App:
    """The application to be: its name, and what is kept."""

    name: str
    keeps_example: bool = False
    takes_wheel: bool = False

    @property
    def title(self) -> str:
        """The name for people: `my-app` is `My app`."""
        return self.name.replace("-", " ").capitalize()

    def make(self) -> None:
        """Turn the tree of the working directory into the application."""
        self._check()
        wheel = _built_wheel() if self.takes_wheel else None
        readme = (STARTER / "README.md").read_text()
        if not self.keeps_example:
            _remove(EXAMPLES_OWN)
        _move("LICENSE", "deploy/LICENSE" if wheel else "lib/onetrip/LICENSE")
        starter = {path.relative_to(STARTER): path.read_text() for path in _files(STARTER)}
        _remove(TEMPLATES_OWN)
        Path("README.md").write_text(self._named(readme))
        if not self.keeps_example:
            self._put(starter)
            _change_all(("lib/migrations/env.py", *MENTIONS), _without_example)
            _change_all(NAMES_KEYS, _without_keys)
            _change_all(
                ("requirements.txt", "pyproject.toml"), lambda text: _without(EXAMPLES_PACKAGES, text)
            )
        _change_all(("pyproject.toml",), self._project)
        _change_all(("Makefile",), _makefile)
        _change_all((".ci/run", ".github/workflows/test.yml"), _ci)
        _change_all(_texts(), self._named)
        _change_all([*_texts("deploy", ".github", "serverless.yml")], _without_pages)
        if wheel:
            _take(wheel, keeps_tests=self.keeps_example)

    def _check(self) -> None:
        if not NAME.fullmatch(self.name):
            raise NewError(
                f'NAME: "{self.name}" is no name. Use letters, digits and hyphens: make new NAME=my-app'
            )
        if not STARTER.is_dir():
            raise NewError(
                "make new: this is an application already. Clone the template anew for another one."
            )
        changes = subprocess.run(
            ["git", "status", "--porcelain"],  # noqa: S607  (git, wherever it is)
            capture_output=True,
            text=True,
            check=False,
        )
        if changes.returncode == 0 and changes.stdout.strip():
            raise NewError("make new: there are changes that are not committed. Commit or stash them first.")

    def _put(self, starter: dict[Path, str]) -> None:
        for path, text in starter.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._named(text))
        Path("lib/revisions.py").write_text(
            '"""The migrations that this code knows, the newest last; make migration adds to it."""\n\n'
            'REVISIONS = ("0001",)\n'
        )
        Path("api/routes/__init__.py").write_text('"""The application\'s routes."""\n')

    def _named(self, text: str) -> str:
        for old, new in (
            ("@NAME@", self.name),
            ("@TITLE@", self.title),
            (TEMPLATE, self.name),
            (TITLE, self.title),
        ):
            text = text.replace(old, new)
        return text

    def _project(self, text: str) -> str:
        text = _sub(r'^version = ".*"$', 'version = "0.1.0"', text)
        text = _sub(r'^description = ".*"$', f'description = "{self.title}."', text)
        text = _sub(r'^license = ".*"\n', "", text)
        text = _sub(r"^# What `make coverage`.*\ncoverage = .*\n", "", text)
        text = _sub(r"^# What the designs need.*\nbench = .*\n", "", text)
        text = _sub(r"^\[tool\.coverage\.run\]\n(.*\n)*?(?=\[tool\.ruff\]\n)", "", text)
        text = _sub(r'^packages = \["api", .*\]$', 'packages = ["api", "lib"]', text)
        text = _sub(r"^exclude = .*\n", "", text)
        text = re.sub(r"^extend-exclude = .*\n", "", text, flags=re.MULTILINE)
        text = _sub(r"^\[tool\.ruff\]\n", f"[tool.ruff]\n{LEFT_ALONE}\n", text)
        return _sub(r"^\[tool\.ruff\.lint\]\n(.*\n)*", LINT, text).rstrip() + "\n"


def _without_example(text: str) -> str:
    text = re.sub(r"^from lib\.example import .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r'\s*"lib/example/[^"]*",', "", text).replace(", migrated and seeded", ", migrated")
    text = text.replace('LOCAL = {"lib/example/seed.py"}', "LOCAL: set[str] = set()")
    return re.sub(r',( ?)"?lib/example/seed\.py("?)(?=[)}]|,)', "", text)


def _without_keys(text: str) -> str:
    """A file without the keys of the example's tokens: each pattern is one form in which they stand."""
    for form in KEYS:
        text = re.sub(form, "", text, flags=re.MULTILINE)
    return text.replace('= {"JWT_SECRET_KEY": ""}', ": dict[str, str] = {}").replace(
        ": the signing key is the example's, a reference.", "."
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def _remove(patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in sorted(Path().glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _move(old: str, new: str) -> None:
    if Path(old).exists():
        Path(old).rename(new)


def _without_pages(text: str) -> str:
    """Comments without the pages that are gone."""
    return re.sub(r" ?\(?\bdocs/[\w./#-]+\.md\)?( has the three commands)?", "", text)


def _texts(*within: str) -> list[str]:
    """The text files in `within`, or everywhere: all but what is installed or built."""
    skipped = {".git", ".venv", ".tools", ".postgres", "build", "node_modules", "__pycache__"}
    paths = (path for path in _files(Path()) if not skipped & {*path.parts} and path.name != "LICENSE")
    texts = [str(path) for path in paths if b"\0" not in path.read_bytes()]
    return [name for name in texts if not within or name.startswith(within)]


def _change_all(names: Sequence[str], change: Callable[[str], str]) -> None:
    for name in names:
        path = Path(name)
        before = path.read_text()
        if (after := change(before)) != before:
            path.write_text(after)


def _sub(pattern: str, replacement: str, text: str) -> str:
    changed, count = re.subn(pattern, lambda _: replacement, text, flags=re.MULTILINE)
    if not count:
        raise NewError(
            f"make new: found nothing that matches {pattern!r}. Has the clone been changed before?"
        )
    return changed


def _without(packages: Sequence[str], text: str) -> str:
    """A list of requirements, in either file, without `packages`."""
    names = "|".join(map(re.escape, packages))
    return re.sub(rf'^ *"?({names})(\[[\w,]+\])?==.*\n', "", text, flags=re.MULTILINE)


def _makefile(text: str) -> str:
    names = "|".join(TARGETS)
    text = re.sub(rf"^({names}):.*\n(\t.*\n)*\n?", "", text, flags=re.MULTILINE)
    text = re.sub(rf"(?<= )({names})(?= |$)", "", text, flags=re.MULTILINE)
    text = re.sub(
        r"^# (Of these a tree|What counts all).*\n(UNMEASURED|CHECKED) .*\n", "", text, flags=re.MULTILINE
    )
    text = text.replace("-n 0 $(CHECKED)", "-n 0 tests/test_migrations.py")
    return re.sub(r"^\.PHONY:.*$", _single_spaced, text, flags=re.MULTILINE)


def _single_spaced(line: re.Match[str]) -> str:
    return " ".join(line[0].split())


def _ci(text: str) -> str:
    """Continuous integration without the template's own checks."""
    text = re.sub(
        r"^.*(make test-plain|make faults|make test-all).*\n( +if: .*\n)?", "", text, flags=re.MULTILINE
    )
    text = re.sub(r"^# (What continuous|Tests on every Python).*\n(#.*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^  faults:\n(?:(?:    .*)?\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^  wheel:\n(?:(?:    .*)?\n)*", "", text, flags=re.MULTILINE)
    return text.rstrip() + "\n"


def _built_wheel() -> Path:
    done = subprocess.run([sys.executable, "-m", "deploy.wheel"], check=False)
    wheels = sorted(Path("build/wheel").glob("*.whl"))
    if done.returncode or not wheels:
        raise NewError("LAYER=pip: the wheel was not built. See above for why, or leave LAYER out.")
    return wheels[-1]


def _take(wheel: Path, *, keeps_tests: bool) -> None:
    """Use the package from `wheel`, kept in `vendor`, in place of `lib/onetrip`."""
    version = wheel.name.split("-")[1]
    Path("vendor").mkdir(exist_ok=True)
    shutil.copy(wheel, "vendor")
    shutil.rmtree("lib/onetrip")
    if not keeps_tests:
        shutil.rmtree("tests/onetrip")
        _change_all(("pyproject.toml",), lambda text: _without(LAYERS_TESTS, text))
        _change_all(
            ("pyproject.toml",), lambda text: text.replace(" -n auto --dist loadfile -p no:schemathesis", "")
        )
        _change_all(("tests/conftest.py",), lambda text: text.replace(', "tests.onetrip.servers"', ""))
        _remove(("tests/packages",))
        _change_all(
            ("Makefile",),
            lambda text: re.sub(r"^test-platforms:.*\n(\t.*\n)*\n", "", text, flags=re.MULTILINE),
        )
    _change_all(("requirements.txt",), lambda text: f"--find-links vendor\nonetrip=={version}\n{text}")
    _change_all(
        ("pyproject.toml",),
        lambda text: (
            text.replace("dependencies = [\n", f'dependencies = [\n    "onetrip=={version}",\n', 1)
            + '\n[tool.uv]\nfind-links = ["vendor"]\n'
        ),
    )
    _change_all(_texts(), lambda text: re.sub(r"\blib\.onetrip\b", "onetrip", text))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the application; 0, or 2 with one line of what is in the way."""
    parser = argparse.ArgumentParser(prog="make new")
    parser.add_argument("name")
    parser.add_argument("--example", choices=["", "keep"], default="")
    parser.add_argument("--layer", choices=["", "pip"], default="")
    given = parser.parse_args(arguments)
    app = App(given.name, keeps_example=given.example == "keep", takes_wheel=given.layer == "pip")
    try:
        app.make()
    except NewError as error:
        print(error, file=sys.stderr)  # noqa: T201  (this is a program for a terminal)
        return 2
    print(f"This is {app.name} now. Next: make dev, make test, git commit.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
