"""The documents agree with the code: settings, pinned packages, the README's shape."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from lib.onetrip.settings.checked import CheckedSettings
from lib.onetrip.settings.settings import Settings, load_settings
from lib.settings import OWN
from tests.faults import promises, promises_page

PROJECT = Path(__file__).parent.parent
README = PROJECT / "README.md"
CONFIGURATION = PROJECT / "docs" / "configuration.md"
DOTENV_EXAMPLE = PROJECT / ".env.example"
DOTENV_HEADER = """\
# cp .env.example .env, and fill in DATABASE_URL. Everything else has a default.
# A variable of the environment wins over this file; one that is left empty counts as unset.
"""
URL = "postgresql://u:p@localhost/d"
# The packages that are imported by name; the other pins are their dependencies.
DIRECT = {
    "argon2-cffi",
    "fastapi",
    "mangum",
    "psycopg",
    "pydantic-settings",
    "pyjwt",
    "python-multipart",
    "sqlalchemy",
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
# A registry's host name, or a path of one machine, helps no reader.
FORBIDDEN = re.compile(r"pypi\.org|pythonhosted|npmjs\.(org|com)|/(root|home|work)/")


def all_fields() -> list[FieldInfo]:
    """The package's settings, then the application's own."""
    return [*Settings.model_fields.values(), *own_fields()]


def own_fields() -> list[FieldInfo]:
    """The application's own settings."""
    shared = CheckedSettings.model_fields
    return [field for kind in OWN for name, field in kind.model_fields.items() if name not in shared]


def names(field: FieldInfo) -> list[str]:
    """The variables that set a field, ours first."""
    assert isinstance(field.validation_alias, AliasChoices)
    return [str(name) for name in field.validation_alias.choices]


def settings_table(fields: Iterable[FieldInfo]) -> str:
    """A table of settings as it stands in a page."""
    rows = [
        f"| `{name}` | {', '.join(f'`{other}`' for other in others)} | {field.description} |"
        for field in fields
        for name, *others in [names(field)]
    ]
    return "\n".join(["| Variable | Also accepted as | What it does |", "|---|---|---|", *rows])


def dotenv_example() -> str:
    """The whole of `.env.example`: everything commented out but the URL that must be filled in."""
    blocks = [DOTENV_HEADER]
    for field in all_fields():
        name = names(field)[0]
        line = f"{name}={default_text(field)}"
        blocks.append(f"# {field.description}\n{'' if name == 'DATABASE_URL' else '# '}{line}\n")
    return "\n".join(blocks)


def default_text(field: FieldInfo) -> str:
    """A default as one would write it; empty where it depends on something else."""
    if field.default is None:
        return ""
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default).lower()


@pytest.mark.parametrize(
    ("page", "fields"),
    [(README, Settings.model_fields.values()), (CONFIGURATION, own_fields())],
    ids=["the package's", "the application's"],
)
def test_a_page_lists_every_setting(page: Path, fields: Iterable[FieldInfo]) -> None:
    """The table between a page's `settings` marks is the code's."""
    found = re.search("<!-- settings -->(.*?)<!-- /settings -->", page.read_text(), re.DOTALL)
    table = settings_table(fields)
    assert found, f"{page} needs this between <!-- settings --> and <!-- /settings -->:\n\n{table}"
    assert found[1].strip() == table, f"{page}'s table of settings is to be:\n\n{table}"


def test_dotenv_example_lists_every_setting() -> None:
    """Each setting stands in `.env.example` with its explanation and default."""
    expected = dotenv_example()
    assert DOTENV_EXAMPLE.read_text() == expected, f".env.example is to be:\n\n{expected}"


def test_dotenv_example_changes_nothing_but_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied and filled in, with every default uncommented, it means what no file means."""
    text = re.sub(r"^# (?=[A-Z_]+=)", "", DOTENV_EXAMPLE.read_text(), flags=re.MULTILINE)
    assert len(re.findall(r"^[A-Z_]+=", text, flags=re.MULTILINE)) == len(all_fields())
    dotenv = tmp_path / ".env"
    dotenv.write_text(text.replace("\nDATABASE_URL=\n", f"\nDATABASE_URL={URL}\n"))
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", str(dotenv))
    filled_in = load_settings()
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", None)
    assert filled_in == load_settings(DATABASE_URL=URL)


def test_the_readme_comes_to_the_point() -> None:
    """The first command stands within the first 25 lines, and the whole is read in minutes."""
    lines = readme().splitlines()
    fences = [number for number, line in enumerate(lines, 1) if line.startswith("```")]
    assert fences, "README.md shows no command"
    assert fences[0] + 1 <= 25
    assert len(lines) < 200


def readme() -> str:
    """The README's text; empty while there is none."""
    return README.read_text() if README.exists() else ""


def pins() -> list[Requirement]:
    """The packages that `requirements.txt` pins; what is no package there is no requirement and raises."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_requirements_and_pyproject_agree() -> None:
    """Vercel reads one of them, Lambda's package the other, and both get the same."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == [str(pin) for pin in pins()]


def test_every_requirement_is_pinned_to_what_is_tested() -> None:
    """Each deployed version is the installed one, to the last digit."""
    installed = {pin.name: f"=={importlib.metadata.version(pin.name)}" for pin in pins()}
    assert {pin.name: str(pin.specifier) for pin in pins()} == installed


def test_the_requirements_are_complete() -> None:
    """All dependencies of the direct packages, on any of our platforms, are pinned, and nothing else."""
    pinned = {canonicalize_name(pin.name): pin for pin in pins()}
    assert pinned.keys() >= DIRECT
    needed: set[str] = set()
    waiting = [pinned[canonicalize_name(name)] for name in DIRECT]
    while waiting:
        package = waiting.pop()
        needed.add(canonicalize_name(package.name))
        waiting.extend(need for need in brought_along(package) if canonicalize_name(need.name) not in needed)
    assert needed == {*pinned}


def brought_along(package: Requirement) -> Iterator[Requirement]:
    """Yield the requirements of a package with its extras, on any Python and machine that we deploy to."""
    try:
        lines = importlib.metadata.requires(package.name) or []
    except importlib.metadata.PackageNotFoundError:
        return  # Needed on another Python than this one; that it is not pinned is found all the same.
    for need in map(Requirement, lines):
        if need.marker is None or any(
            need.marker.evaluate(platform(python, machine) | {"extra": extra})
            for python in PYTHONS
            for machine in MACHINES
            for extra in ("", *package.extras)
        ):
            yield need


def platform(python: str, machine: str) -> dict[str, str]:
    """The part of a marker's environment in which our platforms differ from this machine."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }


def published_files() -> list[Path]:
    """The documents and the code that are served, tracked or about to be."""
    command = [
        "git",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        "*.md",
        "api",
        "lib",
    ]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := PROJECT / name).is_file()]


def test_the_promises_are_what_the_long_run_reached() -> None:
    """The page is written from the numbers kept beside it, and each was reached in full."""
    kept = promises.stored(promises.KEPT)
    assert promises_page.DOCUMENT.read_text() == promises_page.document(kept["rows"], kept.get("coverage"))
    assert {row["name"] for row in kept["rows"]} == promises.PROMISES.keys()
    assert all(row["reached"] == row["of"] == row["full"] for row in kept["rows"])


def test_a_commit_is_checked_by_what_is_installed() -> None:
    """The hooks before a commit need nothing that `make install` does not bring."""
    hooks = re.findall(r"entry: \.venv/bin/(\S+)", (PROJECT / ".pre-commit-config.yaml").read_text())
    assert hooks == ["ruff", "ruff", "mypy"]
    assert all((Path(sys.executable).parent / name).exists() for name in hooks)


def test_nothing_names_a_registry_or_somebodys_folders() -> None:
    """Documents and code hold on every machine."""
    files = published_files()
    assert PROJECT / "lib/onetrip/settings/settings.py" in files
    assert {
        path.name: found[0] for path in files if (found := FORBIDDEN.search(path.read_text(errors="replace")))
    } == {}


@pytest.mark.parametrize(
    "parts", [("https://py", "pi.org/simple"), ("/ro", "ot/.cache"), ("/ho", "me/ada"), ("np", "mjs.com")]
)
def test_what_is_forbidden_is_found(parts: tuple[str, str]) -> None:
    """The search above can fail."""
    assert FORBIDDEN.search("".join(parts))
