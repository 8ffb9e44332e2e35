"""The doctor's checks of the variables, the secret and the URLs, before it connects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.onetrip.doctor.__main__ import main
from lib.onetrip.settings.checked import CheckedSettings
from tests.onetrip.connection.secret_store import TOKEN, Extension
from tests.onetrip.doctor.conftest import CANARY, Doctor, deaf_host

NEON = "ep-cool-name-123456{suffix}.us-east-2.aws.neon.tech"
POOLED, DIRECT = (
    f"postgresql://u:{CANARY}@{NEON.format(suffix=suffix)}/neondb" for suffix in ("-pooler", "")
)
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "api", "AWS_SESSION_TOKEN": TOKEN, "AWS_DEFAULT_REGION": "us-east-1"}


def test_all_that_is_wrong_with_the_settings_is_told_at_once(doctor: Doctor) -> None:
    """Each variable and its remedy stand in one line, and nothing that depends on them is tried."""
    visit = doctor(DATABASE_POOL="huge", DATABASE_URL=f"mysql://u:{CANARY}@h/d")
    assert "DATABASE_POOL" in visit.says["settings"]
    assert "DATABASE_URL" in visit.says["settings"]
    assert visit.marks == {"settings": "✗", "package": visit.marks["package"]}
    assert visit.code == 2


@pytest.mark.parametrize(
    ("variables", "won", "unread"),
    [
        ({"DATABASE_URL": POOLED}, "DATABASE_URL from the environment", None),
        ({"DB_URL": POOLED, "POSTGRES_URL": POOLED}, "POSTGRES_URL from the environment", "DB_URL"),
        ({"NEON_DATABASE_URL": DIRECT}, "NEON_DATABASE_URL from the environment", None),
    ],
)
def test_it_tells_which_variable_won(
    doctor: Doctor, variables: dict[str, str], won: str, unread: str | None
) -> None:
    """Of several names that hold a URL it says which is read and which are not."""
    says = doctor("--only", "settings", **variables).says["settings"]
    assert won in says
    assert ("not read" in says) == (unread is not None)
    assert unread is None or unread in says.partition("not read")[2]


def test_it_tells_what_came_from_dotenv(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the environment hides the same one in `.env`, and the doctor says so."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"DATABASE_URL={POOLED}\n")
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", str(dotenv))
    assert "DATABASE_URL from .env" in doctor("--only", "settings").says["settings"]
    says = doctor("--only", "settings", DATABASE_URL=DIRECT).says["settings"]
    assert "DATABASE_URL from the environment (not read: DATABASE_URL from .env)" in says


def test_a_dotenv_that_is_no_text_is_told(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in another encoding is named, not followed by a traceback."""
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(f"DATABASE_URL={POOLED}é".encode("latin-1"))
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", str(dotenv))
    visit = doctor("--only", "settings")
    assert (visit.marks, visit.code) == ({"settings": "✗"}, 2)
    assert ".env" in visit.says["settings"]


def test_a_dotenv_that_cannot_be_read_is_told(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights that are missing are named; root, who has them all, is refused by hand."""
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", str(tmp_path / ".env"))

    def refused(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)
    (tmp_path / ".env").touch()
    visit = doctor("--only", "settings")
    assert (visit.marks, visit.code) == ({"settings": "✗"}, 2)
    assert "Permission denied" in visit.says["settings"]


@pytest.mark.parametrize("number", ["0", "many", "-1"])
def test_a_number_of_instances_that_is_none_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line says what it wants, with the exit code of what is wrong."""
    with pytest.raises(SystemExit) as end:
        main([f"--instances={number}"])
    assert end.value.code == 2
    assert "a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "mark", "told"),
    [
        ({"DATABASE_URL": POOLED}, "✓", "ep-cool-name-123456 in us-east-2"),
        ({"DATABASE_URL": POOLED, "DATABASE_URL_UNPOOLED": DIRECT}, "✓", "direct"),
        ({"DATABASE_URL": POOLED, "DATABASE_URL_UNPOOLED": POOLED}, "✗", "migrations refuse it"),
        ({"POSTGRES_URL_NON_POOLING": POOLED}, "✗", "POSTGRES_URL_NON_POOLING"),
        ({"DATABASE_URL": DIRECT, "DATABASE_MODE": "pooled"}, "!", "derived"),
        ({"DATABASE_URL": DIRECT, "DATABASE_MODE": "direct"}, "!", "direct host"),
        (
            {"DATABASE_URL": POOLED, "DATABASE_URL_UNPOOLED": DIRECT.replace("neondb", "other")},
            "!",
            "different databases",
        ),
        ({"DATABASE_URL": "postgresql:///d"}, "!", "names no host"),
        ({"DATABASE_URL": f"{POOLED}?pgbouncer=true"}, "✓", "drops pgbouncer"),
    ],
)
def test_urls_that_do_not_fit_the_mode_are_told(
    doctor: Doctor, variables: dict[str, str], mark: str, told: str
) -> None:
    """On Neon the names alone show a pooled URL used as direct, and the other way round."""
    visit = doctor("--only", "url", **variables)
    assert visit.marks == {"url": mark}
    assert told in visit.says["url"]
    assert ("url" in visit.remedies) == (mark != "✓")


def test_a_secret_that_can_be_read_leads_on(doctor: Doctor) -> None:
    """The URL in a secret is examined like any other."""
    with Extension(
        {"db": json.dumps({"host": "127.0.0.1", "username": "u", "password": CANARY})}
    ).running() as store:
        variables = {**LAMBDA, "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": store.port, "DB_SECRET_ARN": "db"}
        visit = doctor("--only", "secret", "url", **variables)
    assert visit.marks == {"secret": "✓", "url": "✓"}
    assert "u:***@127.0.0.1" in visit.says["url"]


@pytest.mark.parametrize(
    ("refusal", "told"), [("AccessDeniedException", "GetSecretValue"), ("ResourceNotFoundException", "name")]
)
def test_a_secret_that_cannot_be_read_is_told(doctor: Doctor, refusal: str, told: str) -> None:
    """The reason and the remedy are those of the store, and nothing is connected to."""
    with Extension({}, refusals=[refusal]).running() as store:
        variables = {**LAMBDA, "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": store.port, "DB_SECRET_ARN": "db"}
        visit = doctor("--only", "secret", "login", **variables)
    assert visit.marks == {"secret": "✗"}
    assert told in visit.remedies["secret"]


@pytest.mark.slow
def test_a_store_that_is_silent_is_told(doctor: Doctor) -> None:
    """A store that takes the question and never answers costs its share of the time and no more."""
    with deaf_host() as port:
        variables = {**LAMBDA, "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": port, "DB_SECRET_ARN": "db"}
        visit = doctor("--only", "secret", **variables)
    assert visit.marks == {"secret": "✗"}
