"""Settings are read as people have them: pasted, quoted, from editors, from several providers at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lib.onetrip.errors import SettingsError
from lib.onetrip.settings.checked import CheckedSettings
from lib.onetrip.settings.settings import Settings, load_settings
from lib.onetrip.testing.databases import free_port
from tests.onetrip.environment import clean_environment

URL = "postgresql://u:p@localhost/d"
DIRECT = "postgresql://u:p@localhost/direct"
TOKEN = "0123456789abcdef-token"
AROUND = {
    "as it is": "{}",
    "a newline behind it": "{}\n",
    "a line of Windows": "{}\r\n",
    "blanks": "  {}\t",
    "a blank that cannot be broken": "\u00a0{}\u00a0",
    "a byte order mark": "\ufeff{}",
    "an invisible blank": "{}\u200b",
    "quotes": '"{}"',
    "single quotes": "'{}'",
    "quotes and blanks": ' "{}" \n',
    "its own name": "{name}={}",
    "its name, as for a shell": "export {name}='{}'",
}
PROGRAMS = {
    "application": ["-c", "import api.index"],
    "Lambda's function": ["-c", "import api.aws_lambda"],
    "health function": ["-c", "import api.aws_health"],
    "migrations": ["-m", "alembic", "upgrade", "head"],
    "development server": ["-m", "dev.server"],
    "doctor": ["-m", "lib.onetrip.doctor", "--only", "settings"],
}


@pytest.fixture(autouse=True)
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `.env` of this test."""
    path = tmp_path / ".env"
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", str(path))
    return path


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("DATABASE_URL", "database_url", URL),
        ("OPS_TOKEN", "ops_token", TOKEN),
        ("DATABASE_MODE", "database_mode", "pooled"),
        ("REQUEST_TIMEOUT_SECONDS", "request_timeout_seconds", "7.5"),
        ("ENVIRONMENT", "environment", "production"),
    ],
)
def test_what_surrounds_a_value_is_removed(
    monkeypatch: pytest.MonkeyPatch, name: str, field: str, value: str, around: str
) -> None:
    """Whitespace, marks, quotes and the name itself come along when a value is pasted."""
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv(name, value)
    plain = getattr(load_settings(), field)
    monkeypatch.setenv(name, around.format(value, name=name))
    assert getattr(load_settings(), field) == plain


def test_the_command_of_neons_console_is_taken_for_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console offers `psql '…'` to copy."""
    monkeypatch.setenv("DATABASE_URL", f"psql '{URL}'")
    assert load_settings().database_url == load_settings(DATABASE_URL=URL).database_url


@pytest.mark.parametrize("password", ["pa$$word", "a$b", "${HOME}", "$HOME", "p'q", 'p"q', "a#b"])
def test_nothing_inside_a_value_is_changed(dotenv: Path, password: str) -> None:
    """A password's dollars are no variables, in the environment and in `.env`."""
    quote = '"' if "'" in password else "'"
    dotenv.write_text(f"DATABASE_URL={quote}postgresql://u:{password}@localhost/d{quote}\n")
    url = load_settings().database_url
    assert url is not None
    assert url.password == password


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_dotenv_of_any_editor_is_read(dotenv: Path, ending: str, mark: str) -> None:
    """Line ends of every system, a mark at the start, `export`, comments, another program's lines."""
    lines = [
        "# für mich",
        f"export DATABASE_URL={URL}",
        "OTHER = {not: ours",
        "DATABASE_MODE = 'pooled' # so",
    ]
    dotenv.write_bytes((mark + ending.join([*lines, ""])).encode())
    settings = load_settings()
    assert (settings.mode, settings.database_url) == ("pooled", load_settings(DATABASE_URL=URL).database_url)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f"DATABASE_URL={URL}\n# für mich".encode("latin-1"), ".env: is not UTF-8. Save it as UTF-8."),
        (f"DATABASE_URL={URL}".encode("utf-16"), ".env: is not UTF-8. Save it as UTF-8."),
        (f"DATABASE_URL='{URL}\n".encode(), ".env: line 1 cannot be read."),
        (b"DATABASE_URL=mysql://h/d\n", 'DATABASE_URL: scheme "mysql" is not supported.'),
    ],
    ids=["Latin-1", "UTF-16", "a quote that is not closed", "a wrong value"],
)
def test_each_program_ends_with_a_line_and_exit_code_2(
    tmp_path: Path, dotenv: Path, program: list[str], content: bytes, line: str
) -> None:
    """A file that cannot be read and a value that is wrong are a line each, whichever program it is."""
    dotenv.write_bytes(content)
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.alembic]\nscript_location = "{Path.cwd()}/lib/migrations"\n'
    )
    done = subprocess.run(
        [sys.executable, *program],
        cwd=tmp_path,
        env=clean_environment(PORT=str(free_port())),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    said = done.stdout + done.stderr
    assert line in said
    assert "Traceback" not in said
    if "lib.onetrip.doctor" not in program:
        assert done.stderr.count("\n") == 1


def test_a_line_break_inside_a_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters that no header and no URL can hold are reported at the start, with all other problems."""
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("OPS_TOKEN", f"{TOKEN}\n{TOKEN}")
    monkeypatch.setenv("DATABASE_MODE", "both")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    told = "OPS_TOKEN: holds a line break or another control character. Write it on one line."
    assert told in refusal.value.problems
    assert len(refusal.value.problems) == 2


def test_the_environment_wins_under_whichever_name(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's name in the environment is stronger than ours in `.env`, as the doctor says it."""
    dotenv.write_text(f"DATABASE_URL={DIRECT}\n")
    monkeypatch.setenv("POSTGRES_URL", URL)
    assert load_settings().database_url == load_settings(DATABASE_URL=URL).database_url
    assert Settings.given_name("database_url") == "POSTGRES_URL"


@pytest.mark.parametrize("prefix", ["STORAGE", "STORAGE_", "NETLIFY"])
def test_an_integrations_prefix_can_be_set(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """The variables of one of several databases are read by their prefix, ahead of those without."""
    bare = prefix.rstrip("_")
    monkeypatch.setenv(f"{bare}_DATABASE_URL", URL)
    monkeypatch.setenv(f"{bare}_DATABASE_URL_UNPOOLED", DIRECT)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@localhost/other")
    monkeypatch.setenv("DATABASE_PREFIX", prefix)
    settings = load_settings()
    assert settings.database_url == load_settings(DATABASE_URL=URL).database_url
    assert Settings.given_name("database_url_unpooled") == f"{bare}_DATABASE_URL_UNPOOLED"


def test_a_missing_url_names_the_prefixes_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of several is meant is not guessed."""
    monkeypatch.setenv("TEST_DATABASE_URL", URL)
    monkeypatch.setenv("STORAGE_POSTGRES_URL", URL)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    told = "DATABASE_URL: is missing. Set it, or DATABASE_PREFIX to the prefix of another: STORAGE, TEST."
    assert refusal.value.problems == (told,)
