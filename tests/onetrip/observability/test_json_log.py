"""Each log line of this process is one JSON object, and no line holds a secret."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.onetrip.observability.json_log import JSONLine
from lib.onetrip.observability.readable_log import ReadableLine
from lib.onetrip.observability.redaction import Redaction
from lib.onetrip.observability.request_stats import RequestStats, collecting
from lib.onetrip.settings.settings import load_settings
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.environment import clean_environment

PASSWORD = "p@ss/w0rd%!"
ENCODED = "p%40ss%2Fw0rd%25%21"
TOKEN = "0123456789abcdef-operator"
URL = f"postgresql://ada:{ENCODED}@db.example.com/app?sslmode=require"
SAY = """
import asyncio, logging, sys, threading, warnings
from lib.onetrip.observability import json_log as telemetry
from lib.onetrip.settings.settings import settings_or_exit

logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler())
logging.getLogger("uvicorn.error").propagate = False
logging.getLogger("uvicorn.access").setLevel(logging.INFO)
telemetry.install(settings_or_exit())
logging.getLogger("lib.onetrip.pool.database").info("ours, with %s", "arguments")
logging.getLogger("other").info("theirs is not heard below a warning")
logging.getLogger("uvicorn.error").error("a server's")
logging.getLogger("uvicorn.access").info("GET /path?token=" + PASSWORD)
again = ValueError("told before, with its request")
telemetry.mark_logged(again)
logging.getLogger("uvicorn.error").error("what a server says of it too", exc_info=again)
logging.getLogger("other").warning("arguments that %d not fit", "do")
logging.getLogger("other").warning("two\\nlines \\x1b[31m")
logging.getLogger("psycopg").warning("error ignored terminating %r: %s", CONNECTION, "gone")
warnings.warn("beware", stacklevel=1)
try:
    raise ValueError("failed with " + URL)
except ValueError:
    logging.getLogger("other").exception("caught")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
asyncio.run(asyncio.sleep(0))
raise RuntimeError("password=" + PASSWORD)
"""
CONNECTION = "<psycopg.Pipeline [BAD] (host=db.example.com user=ada database=app) at 0x7f>"


def _said(tmp_path: Path, **variables: str) -> tuple[str, str]:
    head = f"URL, PASSWORD, CONNECTION = {URL!r}, {PASSWORD!r}, {CONNECTION!r}\n"
    environment = clean_environment(DATABASE_URL=URL, OPS_TOKEN=TOKEN, **variables)
    program = [sys.executable, "-c", head + SAY]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    return done.stdout, done.stderr


def test_every_record_is_one_json_object_a_line(tmp_path: Path) -> None:
    """Our lines, a driver's, warnings, uncaught errors; a server's, unless logged before."""
    said, _ = _said(tmp_path, ENVIRONMENT="production")
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("info", "lib.onetrip.pool.database"),
        ("error", "uvicorn.error"),
        ("warning", "other"),
        ("warning", "other"),
        ("warning", "psycopg"),
        ("warning", "py.warnings"),
        ("error", "other"),
        ("critical", "lib.onetrip.observability.json_log"),
        ("critical", "lib.onetrip.observability.json_log"),
    ]
    assert [line["event"] for line in lines[:4]] == [
        "ours, with arguments",
        "a server's",
        "arguments that %d not fit",
        "two\nlines \x1b[31m",
    ]
    assert [line.get("exception") for line in lines[-3:]] == [
        "ValueError",
        "ZeroDivisionError",
        "RuntimeError",
    ]
    assert all("Traceback" in line["traceback"] for line in lines[-3:])


@pytest.mark.parametrize("environment", ["production", "development"])
def test_no_line_holds_a_secret(tmp_path: Path, environment: str) -> None:
    """Neither a URL's password, however it is written, nor where a driver says it is connected."""
    said, _ = _said(tmp_path, ENVIRONMENT=environment)
    for secret in (PASSWORD, ENCODED, "host=db.example.com", "user=ada"):
        assert secret not in said
    assert "***" in said


def test_in_development_a_line_is_for_people(tmp_path: Path) -> None:
    """The time of day, the level and what happened; tracebacks as Python writes them."""
    said, _ = _said(tmp_path, ENVIRONMENT="development")
    assert " INFO ours, with arguments logger=lib.onetrip.pool.database\n" in said
    assert "\nTraceback (most recent call last):\n" in said


def test_in_development_a_request_is_told_by_its_path() -> None:
    """Method, path, status, time and round trips come first; what is as always is left out."""
    redact = Redaction(load_settings(DATABASE_URL=f"postgresql://u:{ENCODED}@h.example/d"))
    record = logging.LogRecord("lib.access", logging.INFO, "", 1, "request", (), None)
    stats = RequestStats({"request_id": "7"}, "GET", f"/notes/\n{PASSWORD}")
    stats.round_trips = 1
    report = {"method": "GET", "status": 404, "duration_seconds": 0.0036, "db_seconds": 0.0012}
    record.fields = {**report, "round_trips": 1, "connections": 0, "tries": 2, "cold_start": False}
    with collecting(stats):
        line = ReadableLine(redact).format(record)
    said = "INFO GET /notes/\\n*** 404 in 3.6 ms, 1 round trip (1.2 ms) request_id=7 tries=2"
    assert line.partition(" ")[2] == said


@pytest.mark.parametrize("password", ['say "friend"', "back\\slash", "p\u00e4ssw\u00f6rter", "tab\tand more"])
def test_a_secret_that_json_writes_differently_is_found(password: str) -> None:
    """A password is removed in every escaped form."""
    url = DatabaseURL("u", password, "h.example", database="d")
    redact = Redaction(load_settings(DATABASE_URL=url.render(hide_password=False)))
    record = logging.LogRecord("lib", logging.INFO, "", 1, "given: %s", (password,), None)
    line = JSONLine(redact, redact.may_be_needed).format(record)
    assert json.loads(line)["event"] == "given: ***"


def test_a_line_is_never_longer_than_a_platform_takes() -> None:
    """Of a text that is too long the middle is left out; the line stays one JSON object."""
    redact = Redaction(load_settings(DATABASE_URL="postgresql://u@h.example/d"))
    record = logging.LogRecord("lib", logging.ERROR, "", 1, f"first {'x' * 1_000_000} last", (), None)
    line = JSONLine(redact, redact.may_be_needed).format(record)
    assert len(line) < 100_000
    said = json.loads(line)["event"]
    assert said.startswith("first x")
    assert said.endswith("x last")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgres://u:secret@h/d", "postgres://u:***@h/d"),
        ("postgres://u:a@b@h/d and more", "postgres://u:***@h/d and more"),
        ("redis://:secret@h", "redis://:***@h"),
        ("host=h password=secret dbname=d", "host=h password=*** dbname=d"),
        ("password='a b\\'c' x", "password=*** x"),
        ("PASSWORD = secret", "PASSWORD = ***"),
        (f"Bearer {TOKEN}", "Bearer ***"),
        ("the key's password-of-a-key", "the key's ***"),
        ("<Connection [IDLE] (host=h user=u database=d) at 0x1>", "<Connection [IDLE] at 0x1>"),
        ("https://example.com/a?b=c@d", "https://example.com/a?b=c@d"),
        ("nothing to hide (as here)", "nothing to hide (as here)"),
    ],
)
def test_a_secret_is_taken_out_of_its_text(text: str, clean: str) -> None:
    """A text that looks like a password is removed, and the words around it stay."""
    url = "postgresql://u@h.example/d?sslpassword=password-of-a-key"
    redact = Redaction(load_settings(DATABASE_URL=url, OPS_TOKEN=TOKEN))
    assert redact(text) == clean
    assert redact.may_be_needed(json.dumps({"event": text})) or text == clean
