"""The example's own settings are read, checked and refused as the package's are, by every program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from lib.example.settings import ExampleSettings
from lib.onetrip.errors import SettingsError
from lib.onetrip.observability.redaction import Redaction
from lib.onetrip.settings.checked import CheckedSettings, checked
from lib.onetrip.settings.settings import load_settings
from tests.onetrip.environment import clean_environment

URL = "postgresql://u:p@localhost/d"
KEY = "k7Qw2mZp9Xv4Tn8Rb1Yc6Hs3Jd5Lf0Ga"
NEW_KEY = "Set it to what this prints: openssl rand -base64 32"
GUESSABLE = "is a placeholder, which anyone can guess."
FIELDS = ("jwt_secret_key", "jwt_previous_secret_key")
PROGRAMS = {
    "application": ["-c", "import api.index"],
    "Lambda's function": ["-c", "import api.aws_lambda"],
    "migrations": ["-m", "alembic", "upgrade", "head"],
    "development server": ["-m", "dev.server"],
    "doctor": ["-m", "lib.onetrip.doctor", "--own", "lib.settings:OWN", "--only", "settings"],
}
AROUND = ["{}\n", "\ufeff{}", '"{}"', ' "{}" \r\n', "export {name}='{}'", "{}\u200b"]


@pytest.fixture(autouse=True)
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `.env` of this test, and no key in its environment."""
    path = tmp_path / ".env"
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", str(path))
    for field in (*FIELDS, "jwt_issuer"):
        monkeypatch.delenv(field.upper(), raising=False)
    return path


@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("field", FIELDS)
def test_a_key_is_read_as_it_was_pasted(
    field: str, around: str, place: str, dotenv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What surrounds a value is removed, from the environment and from `.env`."""
    name = field.upper()
    if place == "environment":
        monkeypatch.setenv(name, around.format(KEY, name=name))
    else:
        dotenv.write_text(f"{name}={KEY}\n")
    own = load_settings(DATABASE_URL=URL).own(ExampleSettings)
    assert getattr(own, field) == SecretStr(KEY)
    assert ExampleSettings.is_given(field)


@pytest.mark.parametrize("environment", ["preview", "production", "staging"])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("key", "weakness"),
    [
        (KEY[:31], "is shorter than 32 bytes."),
        ("change-me-" * 4, GUESSABLE),
        ("Your-Secret-Key-Here-" * 2, GUESSABLE),
        ("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", GUESSABLE),
        ("x" * 64, GUESSABLE),
        ("my-super-secret-jwt-signing-key-2024", "is not random enough, so that it can be guessed."),
    ],
)
def test_a_weak_key_is_refused_outside_development(
    field: str, key: str, weakness: str, environment: str
) -> None:
    """The line names the variable and the remedy, never the key."""
    given = {field.upper(): key}
    with pytest.raises(SettingsError) as refused:
        checked(ExampleSettings, {**given, "ENVIRONMENT": environment})
    assert list(refused.value.problems) == [f"{field.upper()}: {weakness} {NEW_KEY}"]
    assert checked(ExampleSettings, {**given, "ENVIRONMENT": "development"})


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_every_program_refuses_a_wrong_value_with_a_line(
    tmp_path: Path, dotenv: Path, program: list[str]
) -> None:
    """Whichever is started, the problems of both are told together, a line each, with exit code 2."""
    dotenv.write_text(f"DATABASE_URL={URL}\nDATABASE_MODE=both\nJWT_ISSUER=two words\nJWT_SECRET_KEY=short\n")
    _give_migrations(tmp_path)
    done = subprocess.run(
        [sys.executable, *program],
        cwd=tmp_path,
        env=clean_environment(PORT="8123", ENVIRONMENT="production"),
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert 'DATABASE_MODE: "both" is not supported. Use pooled or direct.' in said
    # The development server looks for its database first.
    if "dev.server" not in program:
        assert "JWT_ISSUER: the value is not supported. Use a name such as production.example.com." in said
        assert f"JWT_SECRET_KEY: is shorter than 32 bytes. {NEW_KEY}" in said
    assert "Traceback" not in said
    assert "two words" not in said


def test_the_development_server_refuses_a_wrong_value(tmp_path: Path, dotenv: Path) -> None:
    """With a database that is named, before anything is served."""
    dotenv.write_text(f"DATABASE_URL={URL}\nJWT_ISSUER=two words\n")
    _give_migrations(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "dev.server"],
        cwd=tmp_path,
        env=clean_environment(PORT="8124"),
        capture_output=True,
        text=True,
        check=False,
    )
    line = "JWT_ISSUER: the value is not supported. Use a name such as production.example.com.\n"
    assert (done.returncode, done.stderr) == (2, line)


def _give_migrations(folder: Path) -> None:
    location = f'script_location = "{Path.cwd()}/lib/migrations"'
    (folder / "pyproject.toml").write_text(f"[tool.alembic]\n{location}\n")


def test_no_log_line_shows_a_key() -> None:
    """The keys of the application's own settings are removed from the log, as the package's are."""
    settings = load_settings(DATABASE_URL=URL, JWT_SECRET_KEY=KEY, ENVIRONMENT="production")
    redact = Redaction(settings)
    assert redact(f"{KEY}!") == f"{KEY}!"
    assert settings.own(ExampleSettings).jwt_secret_key == SecretStr(KEY)
    assert redact(f"{KEY}!") == "***!"
