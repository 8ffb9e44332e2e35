"""The doctor's check of packages: stale, incomplete or too large ones are reported."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.onetrip.doctor import package
from lib.onetrip.doctor.context import Case
from lib.onetrip.doctor.package import check_package
from tests.onetrip.doctor.conftest import Doctor

SOURCES = {
    "api/index.py": "app = 1\n",
    "lib/onetrip/pool/database.py": "pool = 2\n",
    "requirements.txt": "# pins\nfastapi==1.2\n",
}
PACKAGED = {
    "api/index.py": "app = 1\n",
    "lib/onetrip/pool/database.py": "pool = 2\n",
    "lib/__pycache__/engine.cpython-313.pyc": "",
    "fastapi-1.2.dist-info/METADATA": "",
}
Change = Callable[[Path, dict[str, str]], object]


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def _build(root: Path, files: dict[str, str], kind: str) -> None:
    if kind == "vercel":
        _write(root / "build/vercel/.vercel/output/functions/index.func", files)
        return
    (root / "build/lambda").mkdir(parents=True)
    with zipfile.ZipFile(root / "build/lambda/api-x86_64.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


@pytest.mark.parametrize("kind", ["lambda", "vercel"])
def test_a_fresh_package_is_in_order(tmp_path: Path, kind: str) -> None:
    """Built of these very sources, it is told with its size."""
    _write(tmp_path, SOURCES)
    _build(tmp_path, PACKAGED, kind)
    found = check_package(Case(tmp_path))
    assert (found.status, "MiB" in found.says) == ("ok", True), found


@pytest.mark.parametrize("kind", ["lambda", "vercel"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda root, _: (root / "lib/onetrip/pool/database.py").write_text("pool = 3\n"),
            "lib/onetrip/pool/database.py has changed",
        ),
        (lambda root, _: (root / "api/index.py").unlink(), "api/index.py is not there"),
        (lambda root, _: (root / "requirements.txt").write_text("fastapi==1.3\n"), "fastapi is 1.2"),
        (lambda root, _: (root / "requirements.txt").write_text("pyjwt==2.0\n"), "pyjwt is not there"),
        (lambda _, files: files.update({".env.local": "SECRET=1"}), ".env.local"),
        (lambda _, files: files.update({"tests/conftest.py": ""}), "tests/conftest.py"),
        (lambda _, files: files.pop("lib/__pycache__/engine.cpython-313.pyc"), "bytecode"),
        (lambda _, files: files.clear(), "holds none of"),
    ],
)
def test_a_package_that_should_not_be_deployed_is_told(
    tmp_path: Path, kind: str, change: Change, told: str
) -> None:
    """Older than its sources or its pins, or with the wrong things in it: what is wrong is named."""
    files = dict(PACKAGED)
    _write(tmp_path, SOURCES)
    change(tmp_path, files)
    _build(tmp_path, files, kind)
    (tmp_path / "build/vercel/.vercel/output/functions/index.func").mkdir(
        parents=True, exist_ok=kind == "vercel"
    )
    found = check_package(Case(tmp_path))
    assert found.status == "wrong"
    assert told in found.says
    assert found.remedy == "make package"


def test_a_package_that_is_too_large_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that the platform would refuse is reported before the upload."""
    _write(tmp_path, SOURCES)
    _build(tmp_path, {**PACKAGED, "data": "x" * 2**20}, "lambda")
    monkeypatch.setattr(package, "_LIMIT", 2**20)
    assert "more than the 1 that the platform takes" in check_package(Case(tmp_path)).says


def test_a_package_half_written_is_told(tmp_path: Path) -> None:
    """A file that is no zip is no package."""
    _build(tmp_path, PACKAGED, "lambda")
    (tmp_path / "build/lambda/api-x86_64.zip").write_bytes(b"PK")
    assert check_package(Case(tmp_path)).status == "wrong"


def test_no_package_is_no_fault(doctor: Doctor, tmp_path: Path) -> None:
    """Without a package the finding names the command, and nothing else."""
    assert check_package(Case(tmp_path)).status == "ok"
    assert list(doctor("--only", "package").marks) == ["package"]
