"""The doctor's output, its form, and the secrets that it never holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Literal

import pytest
from pydantic import BaseModel

from lib.onetrip.doctor import checks as examination
from lib.onetrip.doctor.checks import IDS, Check, examine
from lib.onetrip.doctor.context import Case
from lib.onetrip.doctor.result import Finding, ok
from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.doctor.conftest import CANARY, Doctor, deaf_host, dropping_host
from tests.onetrip.environment import PROJECT
from tests.onetrip.fault_proxy import Proxy

NOBODY = f"postgresql://u:{CANARY}@127.0.0.1:{{port}}/d"


class Checked(BaseModel, extra="forbid", strict=True):
    """One check in the report for programs."""

    id: str
    status: Literal["ok", "warning", "wrong", "skipped"]
    says: str
    remedy: str | None


class Report(BaseModel, extra="forbid", strict=True):
    """The report for programs."""

    status: Literal["ok", "warning", "wrong"]
    checks: list[Checked]


def test_a_good_set_up_is_all_good(doctor: Doctor, url: DatabaseURL) -> None:
    """Every check has its line, each is in order, and the exit code says so."""
    visit = doctor(DATABASE_URL=url)
    assert set(visit.marks.values()) == {"✓"}, visit.out
    assert tuple(visit.marks) == IDS
    assert visit.remedies == {}
    assert visit.code == 0
    assert visit.out.endswith("\nAll is good.\n")


def test_the_report_for_programs_has_one_shape(doctor: Doctor, url: DatabaseURL) -> None:
    """Good or bad, it is one object of the same form, with every check in it."""
    for given, code, status in ((url, 0, "ok"), (NOBODY.format(port=free_port()), 2, "wrong")):
        visit = doctor("--json", DATABASE_URL=given)
        report = Report.model_validate_json(visit.out)
        assert (visit.code, report.status) == (code, status), visit.out
        assert tuple(check.id for check in report.checks) == IDS
        for check in report.checks:
            assert (check.remedy is None) == (check.status in {"ok", "skipped"})


def test_what_is_not_asked_for_is_not_told(doctor: Doctor, url: DatabaseURL) -> None:
    """`--only` shows the named checks, in the checks' own order."""
    assert list(doctor("--only", "role", "dns", DATABASE_URL=url).marks) == ["dns", "role"]


def test_what_keeps_a_check_from_being_made_is_told(doctor: Doctor) -> None:
    """`--only` does not hide why there is no answer."""
    visit = doctor("--only", "schema", DATABASE_URL=NOBODY.format(port=free_port()))
    assert visit.marks == {"tcp": "✗"}
    assert visit.code == 2
    assert "schema" in visit.out.splitlines()[-1]


def test_an_unknown_id_is_refused_with_the_known_ones(
    doctor: Doctor, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt id ends with exit code 2 and the list of ids."""
    with pytest.raises(SystemExit) as ended:
        doctor("--only", "latnecy")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert [name for name in IDS if name not in said] == []


def test_a_warning_alone_is_exit_code_1(doctor: Doctor, url: DatabaseURL) -> None:
    """A warning's exit code is neither 0 nor 2."""
    visit = doctor("--only", "settings", "pooler", DATABASE_URL=url, DATABASE_MODE="pooled")
    assert (visit.marks, visit.code) == ({"settings": "✓", "pooler": "!"}, 1)


@pytest.mark.slow
@pytest.mark.parametrize("sslmode", ["require", "disable"])
def test_a_deaf_host_is_told_within_ten_seconds(sslmode: str) -> None:
    """A host that accepts and never answers costs seconds, whichever step it goes silent in."""
    with deaf_host() as port:
        done = _within_ten_seconds(NOBODY.format(port=port) + f"?sslmode={sslmode}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert ("[✗] tls" if sslmode == "require" else "[✗] login") in done.stdout


@pytest.mark.slow
def test_a_host_that_drops_packets_is_told_within_ten_seconds() -> None:
    """A firewall that says nothing is recognised as what it is."""
    with dropping_host() as port:
        done = _within_ten_seconds(NOBODY.format(port=port))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "[✗] tcp" in done.stdout
    assert "dropped" in done.stdout


def test_a_simple_terminal_gets_simple_marks() -> None:
    """On a terminal without ✓ the lines have plain marks."""
    done = _in_a_process(NOBODY.format(port=free_port()), PYTHONIOENCODING="ascii")
    assert "[+] settings" in done.stdout
    assert "[x] tcp" in done.stdout
    assert done.stderr == ""


def test_a_check_that_fails_itself_shows_no_traceback(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the doctor's own is one line, without what the error holds, and the rest goes on."""

    def fail(_: Case) -> Finding:
        raise ValueError(CANARY)

    checks = (Check("settings", fail), Check("package", lambda _: ok("fine")))
    monkeypatch.setattr(examination, "CHECKS", checks)
    visit = doctor()
    assert visit.marks == {"settings": "✗", "package": "✓"}
    assert "ValueError" in visit.says["settings"]
    assert visit.code == 2


def test_a_check_that_never_ends_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work that cannot be interrupted, such as a DNS lookup, delays no other check."""
    with deaf_host() as port:

        def hang(_: Case) -> Finding:
            import socket  # noqa: PLC0415

            with socket.create_connection(("127.0.0.1", port)) as line:
                line.recv(1)
            return ok("never")

        monkeypatch.setattr(examination, "CHECKS", (Check("settings", hang, seconds=0.1),))
        ((_, found),) = examine(Case(tmp_path))
    assert (found.status, "no answer" in found.says) == ("wrong", True)


def test_all_that_asks_shares_one_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After it is used up no network check runs; the check of this machine still does."""
    idle = Event()
    asked: list[str] = []

    def slow(_: Case) -> Finding:
        asked.append("slow")
        idle.wait(0.3)
        return ok("at last")

    checks = (Check("settings", slow), Check("replica", slow), Check("package", lambda _: ok("there")))
    monkeypatch.setattr(examination, "CHECKS", checks)
    monkeypatch.setattr(examination, "ASKING_SECONDS", 0.2)
    found = {name: finding.status for name, finding in examine(Case(tmp_path))}
    assert (found["replica"], found["package"]) == ("wrong", "ok")
    assert asked == ["slow"]


@pytest.mark.slow
def test_a_server_that_goes_silent_after_the_login_is_told_once(doctor: Doctor, url: DatabaseURL) -> None:
    """The check that was not answered says so, and those after it are not made on a dead line."""
    proxy = Proxy(("127.0.0.1", url.port or 0))
    with proxy.running(), proxy.unanswered(b"SELECT 1"):
        visit = doctor("--only", "latency", "schema", "role", DATABASE_URL=replace(url, port=proxy.port))
    assert visit.marks == {"latency": "✗"}
    assert "no answer" in visit.says["latency"]


def test_a_package_that_is_not_installed_is_named() -> None:
    """Without `make install` there is a line that says so, and no traceback."""
    program = (
        "import sys; sys.modules['psycopg'] = None; "
        "from lib.onetrip.doctor.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "psycopg is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_name_holds_cannot_steer_the_terminal(doctor: Doctor, url: DatabaseURL) -> None:
    """Escapes and line ends in a name are printed as harmless signs, on one line."""
    visit = doctor(DATABASE_URL=replace(url, database="x\x1b[2J\n[✓] login     fine"))
    assert "\x1b" not in visit.out
    assert visit.marks["login"] == "✗"
    assert "x?[2J [✓] login fine" in visit.says["login"]


def _within_ten_seconds(url: str) -> subprocess.CompletedProcess[str]:
    """The command, which takes at most nine seconds more than where the host refuses at once."""
    begin = time.monotonic()
    _in_a_process(NOBODY.format(port=free_port()))
    refused = time.monotonic() - begin
    done = _in_a_process(url)
    assert time.monotonic() - begin - refused < refused + 9
    return done


def _in_a_process(url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as an operator runs it."""
    given = {"PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": "utf-8", "DATABASE_URL": url, **variables}
    done = subprocess.run(
        [sys.executable, "-m", "lib.onetrip.doctor"],
        env={**os.environ, **given},
        cwd=PROJECT / "tests",  # a folder without a `.env`
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done
