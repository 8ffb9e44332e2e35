"""Logging in: who may, how often they may try, and what a token is worth."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.application import create_app
from lib.example import passwords
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings, environment_with, load_settings
from tests.conftest import alembic
from tests.example.conftest import PASSWORD, AsUser, Make
from tests.onetrip.assertions import assert_problem
from tests.onetrip.environment import PROJECT
from tests.onetrip.servers import Servers

# As the first migration has them.
ATTEMPTS, WINDOW_SECONDS = 10, 900
TOKEN = "/api/v1/auth/token"
ME = "/api/v1/users/me"


def _log_in(client: TestClient, username: str = "ada", password: str = PASSWORD) -> Any:
    return client.post(TOKEN, data={"username": username, "password": password, "grant_type": "password"})


def _me(client: TestClient, token: str) -> Any:
    return client.get(ME, headers={"Authorization": f"Bearer {token}"})


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


def assert_oauth_error(response: Any, error: str) -> dict[str, Any]:
    """`response` is an error as RFC 6749 describes it, with the members of our problems beside it."""
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
    body: dict[str, Any] = response.json()
    assert (body["error"], body["status"]) == (error, 400)
    assert body["error_description"] == body["detail"]
    return body


def from_network(app: FastAPI, address: str) -> TestClient:
    """A client at this address."""
    return TestClient(app, raise_server_exceptions=False, client=(address, 50_000))


def test_an_email_is_a_name_too(client: TestClient, make_user: Make) -> None:
    """One logs in by either, in any case."""
    make_user("ada")
    assert _log_in(client, "ADA@example.com").status_code == 200


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(
    client: TestClient, make_user: Make
) -> None:
    """An answer does not reveal whether a user exists."""
    make_user("ada")
    wrong = assert_oauth_error(_log_in(client, password="wrong password"), "invalid_grant")
    unknown = assert_oauth_error(_log_in(client, "nobody"), "invalid_grant")
    del wrong["request_id"], unknown["request_id"]
    assert wrong == unknown


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"username": "ada"}, "invalid_request"),
        ({"username": "ada", "password": ""}, "invalid_request"),
        ({"username": "ada", "password": "x", "grant_type": "refresh_token"}, "unsupported_grant_type"),
    ],
)
def test_errors_at_the_token_route_are_oauths(client: TestClient, form: dict[str, str], error: str) -> None:
    """A client library finds the code that its standard names."""
    assert_oauth_error(client.post(TOKEN, data=form), error)


def test_an_unknown_name_costs_as_much_work(
    client: TestClient, make_user: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hash of the same cost is computed, whether or not there is such a person."""
    make_user("ada")
    computed: list[str] = []
    compute = passwords.computed

    def watched(password: str, salted: str | None) -> str:
        computed.append(compute(password, salted))
        return computed[-1]

    monkeypatch.setattr(passwords, "computed", watched)
    _log_in(client, password="wrong password")
    _log_in(client, "nobody")
    assert [made.rsplit("$", 2)[0] for made in computed] == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2
    assert not passwords.is_outdated(passwords.NOBODYS)


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
        assert_oauth_error(_log_in(client, username), "invalid_grant")


@pytest.mark.slow
def test_ten_wrong_tries_close_a_name_for_their_own_network_only(app: FastAPI, make_user: Make) -> None:
    """Guessing is stopped, while the user logs in from another address."""
    make_user("ada")
    make_user("grace")
    guesser, at_home = from_network(app, "203.0.113.7"), from_network(app, "198.51.100.9")
    for _ in range(2):
        for _ in range(ATTEMPTS):
            assert _log_in(guesser, password="wrong password").status_code in {400, 429}
        for password in ("wrong password", PASSWORD):
            response = _log_in(guesser, password=password)
            assert_problem(response, 429, "too-many-tries")
            assert 0 < int(response.headers["retry-after"]) <= WINDOW_SECONDS
        assert _log_in(at_home).status_code == 200
    assert _log_in(guesser, "grace").status_code == 200


def test_a_household_is_one_network(app: FastAPI, make_user: Make) -> None:
    """Addresses that a client of IPv6 makes up for itself do not count as others."""
    make_user("ada")
    for number in range(ATTEMPTS):
        assert_oauth_error(
            _log_in(from_network(app, f"2001:db8::{number + 1}"), password="wrong password"), "invalid_grant"
        )
    assert _log_in(from_network(app, "2001:db8::ffff")).status_code == 429
    assert _log_in(from_network(app, "2001:db8:0:1::1")).status_code == 200


@pytest.mark.slow
def test_another_spelling_of_a_name_has_no_tries_of_its_own(servers: Servers) -> None:
    """Letters that the database takes for equal count as equal: Python's lower case differs."""
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
        for _ in range(ATTEMPTS):
            assert_oauth_error(_log_in(client, "virginia", "wrong password"), "invalid_grant")
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
    compute = passwords.computed

    def watched(password: str, salted: str | None) -> str:
        looked_at.append(password)
        return compute(password, salted)

    monkeypatch.setattr(passwords, "computed", watched)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: _log_in(client, password=f"wrong {n}").status_code, range(30)))
    assert set(answers) <= {400, 429}
    assert len(looked_at) == answers.count(400) <= ATTEMPTS


@pytest.mark.anyio
async def test_a_flood_of_logins_leaves_the_rest_of_the_service_alone(app: FastAPI, make_user: Make) -> None:
    """More passwords than can be checked soon are refused at once, and another network still logs in."""
    make_user("ada")

    async def log_in(address: str, username: str, password: str) -> Any:
        transport = httpx2.ASGITransport(app, client=(address, 50_000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(TOKEN, data={"username": username, "password": password})

    flood = [asyncio.create_task(log_in("203.0.113.7", f"nobody{number}", "x")) for number in range(60)]
    await asyncio.sleep(0)
    assert (await log_in("198.51.100.9", "ada", PASSWORD)).status_code == 200
    answers = await asyncio.gather(*flood)
    assert {answer.status_code for answer in answers} == {400, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.json()["type"] for answer in refused} == {"urn:problem:too-many-logins"}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


def test_registrations_are_bounded_by_network(
    app: FastAPI, make_user: Make, servers: Servers, database: Database
) -> None:
    """The number of questions for taken names is limited."""
    make_user("ada")
    digest = "sha256(convert_to('register 203.0.113.7', 'UTF8'))"
    counted = f"INSERT INTO attempts VALUES ({digest}, 100, now())"  # noqa: S608  (ours)
    servers.administer(counted, str(database.url.database))
    new = {"username": "ada", "email": "x@example.com", "password": PASSWORD}
    refused = from_network(app, "203.0.113.7").post("/api/v1/auth/register", json=new)
    assert_problem(refused, 429, "too-many-tries")
    other = from_network(app, "198.51.100.9").post("/api/v1/auth/register", json=new)
    assert assert_problem(other, 409, "already-exists")["errors"] == [
        {"loc": ["body", "username"], "msg": "is taken"}
    ]


@pytest.mark.slow
def test_a_right_password_forgets_the_wrong_ones(client: TestClient, make_user: Make) -> None:
    """A correct password before the limit resets the count."""
    make_user("ada")
    for _ in range(2):
        for _ in range(ATTEMPTS - 1):
            assert _log_in(client, password="wrong password").status_code == 400
        assert _log_in(client).status_code == 200


@pytest.mark.slow
def test_after_the_window_one_may_try_again(
    client: TestClient, make_user: Make, servers: Servers, database: Database
) -> None:
    """Old tries no longer count, and the next login clears them away."""
    make_user("ada")
    name = str(database.url.database)
    for username in ("ada", "nobody"):
        for _ in range(ATTEMPTS + 1):
            _log_in(client, username, "wrong password")
    servers.administer("UPDATE attempts SET since = since - interval '900 seconds'", name)
    assert _log_in(client).status_code == 200
    assert servers.administer("SELECT count(*) FROM attempts", name) == [(0,)]


def test_an_outdated_hash_is_renewed(
    client: TestClient, make_user: Make, servers: Servers, database: Database
) -> None:
    """A login with a hash of other costs replaces it by one of today's costs."""
    from argon2 import PasswordHasher  # noqa: PLC0415  (only here)

    make_user("ada")
    name, old = str(database.url.database), PasswordHasher(1, 1024, 1).hash(PASSWORD)
    servers.administer(f"UPDATE users SET password_hash = '{old}'", name)  # noqa: S608  (ours)
    assert _log_in(client).status_code == 200
    ((kept,),) = servers.administer("SELECT password_hash FROM users", name)
    salted = kept.rpartition("$")[0] + "$"
    assert not passwords.is_outdated(salted)
    assert passwords.computed(PASSWORD, salted) == kept
    assert _log_in(client).status_code == 200


@pytest.mark.parametrize(
    "password", ["password", "12345678", "aaaaaaaa", "        ", "iloveyou", "Password1", "ada.lovelace"]
)
def test_a_password_that_is_tried_first_is_refused(client: TestClient, password: str) -> None:
    """The 3,000 commonest, one's own name, and next to nothing."""
    new = {"username": "ada.lovelace", "email": "ada@example.com", "password": password}
    problem = assert_problem(client.post("/api/v1/auth/register", json=new), 422, "invalid-request")
    assert [part["loc"] for part in problem["errors"]] == [["body", "password"]]


def test_a_password_is_the_same_however_its_letters_are_composed(client: TestClient) -> None:
    """One letter with its accent, or two characters, as other systems send it."""
    new = {"username": "ada", "email": "ada@example.com", "password": "m\u00fcsli und milch"}
    assert client.post("/api/v1/auth/register", json=new).status_code == 201
    assert _log_in(client, "ada", "mu\u0308sli und milch").status_code == 200


def test_a_changed_password_ends_what_was_before(
    client: TestClient, app: FastAPI, ada: dict[str, Any], servers: Servers, database: Database
) -> None:
    """The old password and the tokens of before are worth nothing; the new one logs in."""
    change = {"current_password": "wrong password", "new_password": "analytical engine"}
    assert_problem(client.post(f"{ME}/password", json=change), 403, "wrong-password")
    change["current_password"] = PASSWORD
    assert_problem(client.post(f"{ME}/password", json=change | {"new_password": "password"}), 422)
    assert client.post(f"{ME}/password", json=change).status_code == 204
    assert_oauth_error(_log_in(client), "invalid_grant")
    token = _log_in(client, password="analytical engine").json()["access_token"]
    assert _me(client, token).status_code == 200
    later = f"UPDATE users SET tokens_since = now() + interval '1 minute' WHERE id = {ada['id']}"  # noqa: S608
    servers.administer(later, str(database.url.database))
    assert_problem(_me(client, token), 401, "invalid-token")
    assert app


@pytest.mark.slow
def test_an_administrator_resets_a_password(
    client: TestClient, root: dict[str, Any], make_user: Make, as_user: AsUser
) -> None:
    """An administrator sets it for others, without the old one; a user's own needs the old one."""
    user = make_user("ada")
    path = f"/api/v1/users/{user['id']}/password"
    new = {"new_password": "analytical engine"}
    for role in ("user", "moderator"):
        assert_problem(as_user(make_user(f"a-{role}", role=role)).post(path, json=new), 403)
    assert client.post(path, json=new).status_code == 204
    assert _log_in(client, password="analytical engine").status_code == 200
    assert_problem(client.post(f"/api/v1/users/{root['id']}/password", json=new), 404)
    assert_problem(client.post("/api/v1/users/4711/password", json=new), 404)


def test_logins_and_changes_of_rights_are_on_record(
    app: FastAPI, make_user: Make, as_user: AsUser, servers: Servers, database: Database
) -> None:
    """A record holds actor, action, target and address, and never a password or its hash."""
    root, ada = make_user("root", role="admin"), make_user("ada")
    at_home = from_network(app, "198.51.100.9")
    _log_in(at_home, password="wrong password")
    _log_in(at_home)
    asked = as_user(root)
    asked.patch(f"/api/v1/users/{ada['id']}", json={"role": "moderator"})
    asked.post(f"/api/v1/users/{ada['id']}/password", json={"new_password": "analytical engine"})
    asked.delete(f"/api/v1/users/{ada['id']}")
    name = str(database.url.database)
    recorded = servers.administer(
        "SELECT action, actor_id, target_id, network, detail FROM audit WHERE actor_id IS NOT NULL "
        "OR action = 'login refused' ORDER BY id",
        name,
    )
    assert recorded == [
        ("login refused", None, ada["id"], "198.51.100.9", {"name": "ada"}),
        ("login", ada["id"], ada["id"], "198.51.100.9", None),
        ("user changed", root["id"], ada["id"], None, {"role": "moderator"}),
        ("user changed", root["id"], ada["id"], None, {"password_hash": "(new)"}),
        ("user deleted", root["id"], ada["id"], None, {"role": "moderator"}),
    ]


@pytest.mark.parametrize("change", [{"role": "user"}, {"is_active": False}, None], ids=str)
def test_the_last_administrator_remains(
    client: TestClient, root: dict[str, Any], make_user: Make, change: dict[str, Any] | None
) -> None:
    """The last one gets 409; with another one left, it is allowed."""
    path = f"/api/v1/users/{root['id']}"

    def leave() -> Any:
        return client.patch(path, json=change) if change else client.delete(path)

    assert_problem(leave(), 409, "last-administrator")
    make_user("other", role="admin")
    assert leave().status_code in {200, 204}


def test_two_administrators_who_leave_at_once_do_not_both(
    make_user: Make, as_user: AsUser, servers: Servers, database: Database
) -> None:
    """Each finds the other still there, so one waits for the other and then remains."""
    users = [make_user(f"root{number}", role="admin") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda user: as_user(user).delete("/api/v1/users/me").status_code, users)
        assert sorted(answers) == [204, 204, 204, 409]
    assert servers.administer("SELECT count(*) FROM users", str(database.url.database)) == [(1,)]


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


@pytest.mark.slow
def test_people_whose_password_everyone_knows_are_not_seeded_in_production(servers: Servers) -> None:
    """The sample users are for development only; the refusal comes before anything connects."""
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
