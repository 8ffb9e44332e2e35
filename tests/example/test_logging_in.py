"""Logging in: who may, how often they may try, and what a token is worth."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import jwt
import pytest
from fastapi.testclient import TestClient

from api.application import create_app
from lib.example import login_attempts as logins
from lib.example import passwords
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings, environment_with, load_settings
from tests.conftest import alembic
from tests.example.conftest import PASSWORD, Make
from tests.onetrip.assertions import assert_problem
from tests.onetrip.environment import JWT_SECRET_KEY, PROJECT
from tests.onetrip.servers import Servers

TOKEN = "/api/v1/auth/token"
ME = "/api/v1/users/me"
OTHER_KEY = "b1Xv8Qm3Kz6Wp9Rt2Yh5Nc7Jd4Fg0LsA"


def _log_in(client: TestClient, username: str = "ada", password: str = PASSWORD) -> Any:
    return client.post(TOKEN, data={"username": username, "password": password, "grant_type": "password"})


def _me(client: TestClient, token: str) -> Any:
    return client.get(ME, headers={"Authorization": f"Bearer {token}"})


def _signed(claims: dict[str, Any], key: str = JWT_SECRET_KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


@pytest.mark.parametrize("name", ["ada", "ADA"])
def test_who_registered_logs_in(client: TestClient, make_user: Make, name: str) -> None:
    """The token of the answer says who one is, and is kept by no cache."""
    user = make_user("ada")
    response = _log_in(client, name)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 1800)
    assert _me(client, answer["access_token"]).json() == user


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(
    client: TestClient, make_user: Make
) -> None:
    """Nobody learns from an answer whether there is such a person."""
    make_user("ada")
    wrong = assert_problem(_log_in(client, password="wrong password"), 401)
    unknown = assert_problem(_log_in(client, "nobody"), 401)
    del wrong["request_id"], unknown["request_id"]
    assert wrong == unknown


def test_an_unknown_name_costs_as_much_work(
    client: TestClient, make_user: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hash of the same cost is checked, whether or not there is such a person or a password of theirs."""
    make_user("ada")
    costs: list[str] = []
    hasher = passwords._hasher()  # noqa: SLF001  (to look on)

    class Watched:
        def verify(self, kept: str, password: str) -> bool:
            costs.append(kept.rsplit("$", 2)[0])
            return hasher.verify(kept, password)

    monkeypatch.setattr(passwords, "_hasher", Watched)
    _log_in(client, password="wrong password")
    _log_in(client, "nobody")
    assert costs == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2
    assert not hasher.check_needs_rehash(passwords.NOBODYS)


def test_someone_without_a_password_cannot_log_in(
    client: TestClient, make_user: Make, servers: Servers, database: Database
) -> None:
    """Nor who is switched off: with the right password they are told what all are told."""
    make_user("ada")
    make_user("grace")
    name = str(database.url.database)
    servers.administer("UPDATE users SET password_hash = NULL WHERE username = 'ada'", name)
    servers.administer("UPDATE users SET is_active = false WHERE username = 'grace'", name)
    for username in ("ada", "grace"):
        assert_problem(_log_in(client, username), 401)


def test_ten_wrong_tries_are_all_that_a_name_has(client: TestClient, make_user: Make) -> None:
    """Then even the right password is not looked at, and the client is told when to come again."""
    make_user("ada")
    make_user("grace")
    for _ in range(logins.MAX_ATTEMPTS):
        assert_problem(_log_in(client, password="wrong password"), 401)
    for password in ("wrong password", PASSWORD):
        response = _log_in(client, password=password)
        assert_problem(response, 429)
        assert 0 < int(response.headers["retry-after"]) <= logins.WINDOW_SECONDS
    assert _log_in(client, "grace").status_code == 200


def test_another_spelling_of_a_name_has_no_tries_of_its_own(servers: Servers) -> None:
    """What the database takes for the same letter counts as the same: Python's lower case differs."""
    name = f"spelt_{uuid4().hex[:12]}"
    # As on Neon, whose databases know the case of all letters.
    locale = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
    servers.administer(f"CREATE DATABASE {name} TEMPLATE template0 {locale}")
    url = servers.url("direct", name)
    alembic(url, "upgrade", "head")
    database = Database(load_settings(DATABASE_URL=url.render(), DATABASE_MODE="direct"))
    with TestClient(create_app(database)) as client:
        new = {"username": "virginia", "email": "virginia@example.com", "password": PASSWORD}
        assert client.post("/api/v1/auth/register", json=new).status_code == 201
        assert _log_in(client, "V\u0130RGINIA").status_code == 200
        for _ in range(logins.MAX_ATTEMPTS):
            assert_problem(_log_in(client, "virginia", "wrong password"), 401)
        for spelling in ("virginia", "VIRGINIA", "v\u0130rginia", "virg\u0130nia"):
            assert_problem(_log_in(client, spelling), 429)
    database.close()
    servers.administer(f"DROP DATABASE {name} WITH (FORCE)")


def test_tries_that_come_together_are_counted_each(
    client: TestClient, make_user: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thirty at once no more than ten passwords are looked at."""
    make_user("ada")
    looked_at: list[str] = []
    matches = passwords.matches

    def watched(password: str, kept: str | None) -> bool:
        looked_at.append(password)
        return matches(password, kept)

    monkeypatch.setattr(passwords, "matches", watched)
    with ThreadPoolExecutor(10) as pool:
        answers = pool.map(lambda n: _log_in(client, password=f"wrong {n}").status_code, range(30))
        assert sorted(answers) == [401] * 10 + [429] * 20
    assert len(looked_at) == logins.MAX_ATTEMPTS


def test_a_right_password_forgets_the_wrong_ones(client: TestClient, make_user: Make) -> None:
    """Whoever remembers in time starts anew."""
    make_user("ada")
    for _ in range(2):
        for _ in range(logins.MAX_ATTEMPTS - 1):
            assert _log_in(client, password="wrong password").status_code == 401
        assert _log_in(client).status_code == 200


def test_after_the_window_one_may_try_again(
    client: TestClient, make_user: Make, servers: Servers, database: Database
) -> None:
    """Old tries no longer count, and are cleared away by whoever comes."""
    make_user("ada")
    name = str(database.url.database)
    for username in ("ada", "nobody"):
        for _ in range(logins.MAX_ATTEMPTS + 1):
            _log_in(client, username, "wrong password")
    servers.administer("UPDATE login_attempts SET since = since - interval '900 seconds'", name)
    assert _log_in(client).status_code == 200
    assert servers.administer("SELECT count(*) FROM login_attempts", name) == [(0,)]


def test_an_outdated_hash_is_renewed(
    client: TestClient, make_user: Make, servers: Servers, database: Database
) -> None:
    """Who logs in with a hash of other costs has one of today's afterwards, of the same password."""
    from argon2 import PasswordHasher  # noqa: PLC0415  (only here)

    make_user("ada")
    name, old = str(database.url.database), PasswordHasher(1, 1024, 1).hash(PASSWORD)
    servers.administer(f"UPDATE users SET password_hash = '{old}'", name)  # noqa: S608  (ours)
    assert _log_in(client).status_code == 200
    ((kept,),) = servers.administer("SELECT password_hash FROM users", name)
    assert not passwords.is_outdated(kept)
    assert passwords.matches(PASSWORD, kept)


def _unsigned(claims: dict[str, Any], algorithm: str) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, claims)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        + "."
    )


def _bad_tokens() -> dict[str, str]:
    later = int(time.time()) + 600
    good = {"sub": "1", "exp": later}
    token = _signed(good)
    odd: tuple[Any, ...] = (1, None, [], {}, True)
    return {
        "over": _signed({"sub": "1", "exp": int(time.time()) - 1}),
        "without end": _signed({"sub": "1"}),
        "without a name": _signed({"exp": later}),
        "another key": _signed(good, OTHER_KEY),
        "another algorithm": _signed(good, JWT_SECRET_KEY * 2, "HS512"),
        "no algorithm": _unsigned(good, "none"),
        "no signature": _unsigned(good, "HS256"),
        "changed": token[:-6] + ("A" * 6 if token[-6:] != "A" * 6 else "B" * 6),
        "not yet": _signed({**good, "nbf": later}),
        "endless": _signed({"sub": "1", "exp": 1e400}),
        "end: text": _signed({"sub": "1", "exp": "soon"}),
        "end: list": _signed({"sub": "1", "exp": [later]}),
        **{f"sub: {sub!r}": _raw({"sub": sub, "exp": later}) for sub in odd},
        **{
            f"sub: {sub}": _signed({"sub": sub, "exp": later})
            for sub in ("", "0", "-1", "1.0", "٣", "x", "9" * 19)
        },
        "somebody unknown": _signed({"sub": "4711", "exp": later}),
        "no token": "a.b.c",
        "no text": "\u00ff.b.c",
    }


def _raw(claims: dict[str, Any]) -> str:
    return jwt.PyJWS().encode(json.dumps(claims).encode(), JWT_SECRET_KEY, algorithm="HS256")


def test_a_token_that_is_not_good_is_401(client: TestClient, make_user: Make) -> None:
    """Signed by us, with our algorithm, for someone who is there, and not over: all of it, or nothing."""
    make_user("ada")
    assert _me(client, _signed({"sub": "1", "exp": int(time.time()) + 600})).status_code == 200
    for name, token in _bad_tokens().items():
        response = client.get(ME, headers={b"Authorization": b"Bearer " + token.encode("latin-1")})
        assert response.status_code == 401, name
        assert_problem(response, 401)


def test_keys_are_rotated_without_anyone_logging_in_again(
    make_settings: Callable[..., Settings], make_user: Make
) -> None:
    """Tokens of the key before are taken while it is named; new ones are of the new key alone."""
    make_user("ada")
    old = _signed({"sub": "1", "exp": int(time.time()) + 600})
    for previous, status in (({"JWT_PREVIOUS_SECRET_KEY": JWT_SECRET_KEY}, 200), ({}, 401)):
        database = Database(make_settings(JWT_SECRET_KEY=OTHER_KEY, **previous))
        with TestClient(create_app(database)) as client:
            assert _me(client, old).status_code == status
            new = _log_in(client).json()["access_token"]
            assert jwt.decode(new, OTHER_KEY, algorithms=["HS256"])["sub"] == "1"
            assert _me(client, new).status_code == 200
        database.close()


@pytest.mark.parametrize("route", ["pooled"])
def test_without_a_key_production_lets_nobody_in(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No key is made up where others might share it: 503, and the log names the variable."""
    monkeypatch.delenv("JWT_SECRET_KEY")
    database = Database(make_settings(ENVIRONMENT="production"))
    with TestClient(create_app(database)) as client:
        assert_problem(_me(client, "a.b.c"), 503)
        assert client.get("/health/live").status_code == 200
    assert "JWT_SECRET_KEY: is missing" in caplog.text
    development = Database(make_settings(ENVIRONMENT="development"))
    with TestClient(create_app(development)) as client:
        assert_problem(_me(client, "a.b.c"), 401)


def test_people_whose_password_everyone_knows_are_not_seeded_in_production(servers: Servers) -> None:
    """The sample people are for somebody's own machine; the refusal comes before anything connects."""
    variables = {"DATABASE_URL": servers.url("direct", "nowhere").render(), "ENVIRONMENT": "production"}
    done = subprocess.run(
        [sys.executable, "-m", "lib.example.seed"],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment_with(**variables),
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Not seeded: ENVIRONMENT is production" in done.stderr
