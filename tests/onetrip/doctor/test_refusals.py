"""Messages of servers that are not here: the doctor understands them, and repeats no secret."""

from __future__ import annotations

import psycopg
import pytest

from lib.onetrip.doctor.login_errors import meaning
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.doctor.conftest import CANARY

URL = DatabaseURL("ada", CANARY, "ep-cool-name-123456.us-east-2.aws.neon.tech", None, "shop")
PREFIX = 'connection failed: connection to server at "192.0.2.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("ERROR: The endpoint is disabled. Enable it using Neon API and retry.", "disabled"),
        ("ERROR: The requested endpoint could not be found.", "no such endpoint"),
        ("ERROR: Couldn't connect to compute node", "waking up"),
        ("FATAL: the database system is starting up", "waking up"),
        ("ERROR: Failed to acquire permit to connect to the database. Too many attempts.", "waking up"),
        ("ERROR: Your project has exceeded the data transfer quota. Upgrade your plan.", "quota"),
        ("FATAL: remaining connection slots are reserved for roles with SUPERUSER", "no connection left"),
        ('FATAL: no pg_hba.conf entry for host "192.0.2.7", user "ada", no encryption', "pg_hba"),
        ('FATAL: unsupported startup parameter in options: "statement_timeout"', "pooler refuses"),
        ("ERROR: This IP address 192.0.2.7 is not allowed to connect to this endpoint.", "allow list"),
        ("SSL error: certificate verify failed", "TLS failed"),
        ("channel binding required, but server did without", "channel binding"),
        ('FATAL: database "quota SSL pg_hba" does not exist', "no such database"),
        ('FATAL: no such user: "too many clients"', "no such role"),
    ],
)
def test_the_words_of_other_servers_are_known(said: str, means: str) -> None:
    """Neon's, PgBouncer's and PostgreSQL's words have a meaning; names are not taken for words."""
    says, remedy = meaning(psycopg.OperationalError(PREFIX + said), URL, [])
    assert means in says
    assert remedy


def test_what_nobody_knows_is_repeated_without_secrets() -> None:
    """Words that are not in the table are shown as they are, less the password and other secrets."""
    error = psycopg.OperationalError(f"FATAL: der Server mag {CANARY} und geheim nicht")
    says, _ = meaning(error, URL, ["geheim"])
    assert "der Server mag *** und *** nicht" in says


def test_what_is_repeated_is_one_line_of_bounded_length() -> None:
    """A server that has much to say does not fill the screen."""
    says, _ = meaning(psycopg.OperationalError("x\n" * 5000), URL, [])
    assert "\n" not in says
    assert len(says) < 400
