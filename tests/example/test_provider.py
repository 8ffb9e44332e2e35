"""People who log in elsewhere: their provider's tokens are taken, and nothing that only looks like one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient

from api.application import create_app
from lib.example import key_set
from lib.example.settings import ExampleSettings
from lib.onetrip.errors import SettingsError
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.checked import checked
from lib.onetrip.settings.settings import Settings
from tests.example.conftest import Make
from tests.example.issuer import AUDIENCE, LEFT_OUT, Issuer, SigningKey, issuing, respond
from tests.onetrip.assertions import assert_problem
from tests.onetrip.environment import clean_environment
from tests.onetrip.servers import Servers

ME = "/api/v1/users/me"
TASKS = "/api/v1/tasks"
ADA = {"username": "ada", "email": "ada@example.com"}
ALGORITHMS = ("RS256", "ES256", "EdDSA")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A provider without TLS."""
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def client(make_settings: Callable[..., Settings], issuer: Issuer) -> Iterator[TestClient]:
    """A client of the application that trusts the provider."""
    yield from _client(make_settings, issuer)


def _client(make_settings: Callable[..., Settings], issuer: Issuer, **more: str) -> Iterator[TestClient]:
    trusted = {"IDENTITY_ISSUER": issuer.url, "IDENTITY_AUDIENCE": AUDIENCE, **more}
    database = Database(make_settings(**trusted))
    with TestClient(create_app(database), raise_server_exceptions=False) as client:
        yield client
    database.close()


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _open(client: TestClient, token: str, **profile: str) -> Any:
    return client.post(ME, json={**ADA, **profile}, headers=_as(token))


def test_a_subject_opens_an_account_and_reaches_its_own_rows(client: TestClient, issuer: Issuer) -> None:
    """Each subject is one person, whom row-level security binds by the token alone."""
    ada, grace = issuer.token(), issuer.token(sub="grace")
    assert_problem(client.get(ME, headers=_as(ada)), 401)
    opened = _open(client, ada)
    assert (opened.status_code, opened.json()["username"]) == (201, "ada")
    assert _open(client, grace, username="grace", email="g@example.com").status_code == 201
    assert client.post(TASKS, json={"title": "Mine"}, headers=_as(ada)).status_code == 201
    seen = [client.get(TASKS, headers=_as(token)).json()["items"] for token in (ada, grace)]
    assert [[task["title"] for task in tasks] for tasks in seen] == [["Mine"], []]
    assert client.get(ME, headers=_as(ada)).json()["id"] == opened.json()["id"]


def test_an_account_is_opened_once(client: TestClient, issuer: Issuer) -> None:
    """No subject opens a second one or takes another's name, and no one does without a token."""
    assert _open(client, issuer.token()).status_code == 201
    assert_problem(_open(client, issuer.token(), username="two", email="two@example.com"), 409)
    assert_problem(_open(client, issuer.token(sub="x"), email="other@example.com"), 409)
    assert_problem(client.post(ME, json=ADA), 401)


@pytest.mark.parametrize("route", ["direct"])
def test_a_subject_that_was_switched_off_is_refused(
    client: TestClient, issuer: Issuer, servers: Servers, database_name: str
) -> None:
    """Its tokens are good, and open nothing."""
    assert _open(client, issuer.token()).status_code == 201
    servers.administer("UPDATE users SET is_active = false", database_name)
    assert_problem(client.get(ME, headers=_as(issuer.token())), 401)


SHAPES: dict[str, dict[str, Any]] = {
    "Auth0": {"aud": [AUDIENCE, "https://example.eu.auth0.com/userinfo"], "azp": "x", "scope": "openid"},
    "Cognito": {"aud": LEFT_OUT, "client_id": AUDIENCE, "token_use": "access", "cognito:groups": []},
    "Clerk": {"aud": LEFT_OUT, "azp": AUDIENCE, "sid": "sess_1", "fva": [0, -1], "v": 2},
    "Neon Auth": {"aud": AUDIENCE, "role": "authenticated", "email": "ada@example.com"},
}


@pytest.mark.parametrize("route", ["pooled"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_tokens_of_well_known_providers_are_taken(
    client: TestClient, issuer: Issuer, shape: dict[str, Any], algorithm: str
) -> None:
    """However they name the client that a token is for, and with each algorithm."""
    (key,) = [key for key in issuer.keys if key.algorithm == algorithm]
    assert _open(client, issuer.token(key, **shape)).status_code == 201


def _bad_tokens(issuer: Issuer) -> dict[str, str]:
    now = int(time.time())
    first, stranger = issuer.keys[0], SigningKey.make("RS256")
    good = issuer.token()
    head, body, signature = good.split(".")
    return {
        "of another key": issuer.token(stranger),
        "of another key of another type": issuer.token(SigningKey.make("ES256", first.name)),
        "a name that is not known": issuer.token(SigningKey.make("RS256", "unknown")),
        "no name": issuer.token(headers={"kid": LEFT_OUT}),
        "not signed": f"{_encoded({'alg': 'none', 'kid': first.name})}.{body}.",
        "not signed, with a signature": f"{_encoded({'alg': 'None', 'kid': first.name})}.{body}.{signature}",
        "the public key as a secret": _hmac(issuer, first),
        "another algorithm of its type": issuer.token(SigningKey(first.name, "RS512", first.private)),
        "a padding that is not taken": issuer.token(SigningKey(first.name, "PS256", first.private)),
        "an algorithm of no text": f"{_encoded({'alg': [1], 'kid': first.name})}.{body}.{signature}",
        "a name that is no text": f"{_encoded({'alg': 'RS256', 'kid': {}})}.{body}.{signature}",
        "a critical header": issuer.token(headers={"crit": ["exp"], "exp": 1}),
        "a key of its own": issuer.token(
            stranger, headers={"jwk": stranger.public(), "jku": issuer.url, "x5u": issuer.url}
        ),
        "another type": issuer.token(headers={"typ": "logout+jwt"}),
        "another issuer": issuer.token(iss=issuer.url.rstrip("/")),
        "a list of issuers": issuer.token(iss=[issuer.url]),
        "no issuer": issuer.token(iss=LEFT_OUT),
        "another audience": issuer.token(aud="billing"),
        "a part of the audience": issuer.token(aud=AUDIENCE[:-1]),
        "no audience": issuer.token(aud=LEFT_OUT),
        "an audience of nothing": issuer.token(aud=None, azp=AUDIENCE),
        "audiences within one another": issuer.token(aud=[[AUDIENCE]]),
        "another client": issuer.token(aud=LEFT_OUT, azp="billing"),
        "for logging in alone": issuer.token(token_use="id"),
        "expired": issuer.token(exp=now - 31),
        "not yet": issuer.token(nbf=now + 120),
        "of the future": issuer.token(iat=now + 120),
        "no end": issuer.token(exp=LEFT_OUT),
        "an end that is infinite": issuer.token(exp=float("inf")),
        "an end that is no number": issuer.token(exp="soon"),
        "nobody": issuer.token(sub=LEFT_OUT),
        "an empty name": issuer.token(sub=""),
        "a blank name": issuer.token(sub="  "),
        "a number": issuer.token(sub=1),
        "a list of names": issuer.token(sub=["ada|1"]),
        "a name that ends": issuer.token(sub="ada|1\x00"),
        "a name that is not visible": issuer.token(sub="ada|1\u200b"),
        "a very long name": issuer.token(sub="a" * 5000),
        "changed": f"{head}.{_encoded(issuer.claims(sub='grace'))}.{signature}",
        "cut": good[:-8],
    }


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def _hmac(issuer: Issuer, key: SigningKey) -> str:
    """A token that is signed with the public key as if it were a secret, as an old library would take it."""
    public = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_encoded({'alg': 'HS256', 'typ': 'at+jwt', 'kid': key.name})}.{_encoded(issuer.claims())}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), hashlib.sha256)).decode().rstrip("=")
    return f"{signed}.{mac}"


@pytest.mark.parametrize("route", ["pooled"])
def test_nothing_else_is_taken(client: TestClient, issuer: Issuer) -> None:
    """Forged, foreign, expired and confused tokens are 401 each; all together ask the provider twice."""
    assert _open(client, issuer.token()).status_code == 201
    for name, token in _bad_tokens(issuer).items():
        answer = client.get(ME, headers=_as(token))
        assert answer.status_code == 401, name
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"], name
    assert client.get(ME, headers=_as(issuer.token())).status_code == 200
    assert issuer.asked <= 2


@pytest.mark.parametrize("route", ["pooled"])
def test_a_known_key_costs_no_network(client: TestClient, issuer: Issuer) -> None:
    """A hundred requests ask once, and go on while the provider is away."""
    assert _open(client, issuer.token()).status_code == 201
    issuer.answer = lambda peer: respond(peer, b"", "500 Oh no")
    for _ in range(100):
        assert client.get(ME, headers=_as(issuer.token())).status_code == 200
    assert issuer.asked == 1


@pytest.mark.parametrize("route", ["pooled"])
def test_many_at_once_ask_once(client: TestClient, issuer: Issuer) -> None:
    """The first requests of an instance wait for one reading together."""

    def slow(peer: socket.socket) -> None:
        time.sleep(0.3)
        respond(peer, issuer.document())

    issuer.answer = slow
    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(lambda _: client.get(ME, headers=_as(issuer.token())).status_code, range(20))
    # They have no account yet, which the database says.
    assert ({*answers}, issuer.asked) == ({401}, 1)


@pytest.mark.parametrize("route", ["pooled"])
def test_a_new_key_is_learnt_by_one_reading(
    client: TestClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotated key is taken at its first use; then invented names read nothing for a while."""
    assert _open(client, issuer.token()).status_code == 201
    monkeypatch.setattr(key_set, "PAUSE_SECONDS", 0.0)
    old, new = issuer.keys[0], SigningKey.make("ES256", "new")
    issuer.keys = [new]
    assert client.get(ME, headers=_as(issuer.token(new))).status_code == 200
    monkeypatch.setattr(key_set, "PAUSE_SECONDS", 60.0)
    assert_problem(client.get(ME, headers=_as(issuer.token(old))), 401)
    for number in range(50):
        stranger = SigningKey(f"invented {number}", "ES256", new.private)
        assert_problem(client.get(ME, headers=_as(issuer.token(stranger))), 401)
    assert client.get(ME, headers=_as(issuer.token(new))).status_code == 200
    assert issuer.asked == 2


@pytest.mark.parametrize("route", ["pooled"])
def test_keys_are_read_again_behind_a_request_and_end_in_time(
    client: TestClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old document is renewed while its keys still serve; one that cannot be renewed holds for so long."""
    assert _open(client, issuer.token()).status_code == 201
    monkeypatch.setattr(key_set, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(key_set, "FRESH_SECONDS", 0.0)
    issuer.answer = lambda peer: respond(peer, b"gone", "500 Oh no")
    assert client.get(ME, headers=_as(issuer.token())).status_code == 200
    monkeypatch.setattr(key_set, "KEPT_SECONDS", 0.0)
    assert_problem(client.get(ME, headers=_as(issuer.token())), 503)
    monkeypatch.setattr(key_set, "KEPT_SECONDS", 60.0)
    assert client.get(ME, headers=_as(issuer.token())).status_code == 200


def _silent(_: Any) -> None:
    time.sleep(10)


def _trickling(peer: Any) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        peer.sendall(b"X-More: 1\r\n")
        time.sleep(0.1)


def _huge(peer: Any) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b'{"keys": [' + b" " * 50_000_000)


def _with(*keys: Any) -> Callable[[Any], None]:
    return lambda peer: respond(peer, json.dumps({"keys": [*keys]}).encode())


SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505  (what is refused)
BROKEN: dict[str, Callable[[Any], None]] = {
    "silent": _silent,
    "a header now and then": _trickling,
    "huge": _huge,
    "hangs up": lambda peer: peer.close(),
    "no HTTP": lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9\r\n"),
    "an error": lambda peer: respond(peer, b"{}", "500 Oh no"),
    "moved": lambda peer: respond(peer, b"", "302 Found", "Location: http://localhost:9/\r\n"),
    "no JSON": lambda peer: respond(peer, b"<html>"),
    "very deep": lambda peer: respond(peer, b"[" * 200_000),
    "no object": lambda peer: respond(peer, b"[]"),
    "no list": lambda peer: respond(peer, b'{"keys": {}}'),
    "no keys": _with(),
    "keys that are none": _with(None, 1, "x", [], {}, {"kty": []}, {"kty": "RSA", "kid": "rs256"}),
    "a secret": _with({"kty": "oct", "kid": "rs256", "k": "c2VjcmV0", "alg": "HS256"}),
    "a short key": _with(SigningKey("rs256", "RS256", SHORT).public()),
    "another curve": _with(
        {**SigningKey("rs256", "ES384", ec.generate_private_key(ec.SECP384R1())).public(), "alg": "ES256"}
    ),
    "for encryption": _with(SigningKey.make("RS256").public(use="enc")),
}


@pytest.mark.parametrize("route", ["pooled"])
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_provider_that_is_broken_opens_nothing_and_hangs_nothing(
    client: TestClient, issuer: Issuer, answer: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is 503 with the time to come back, within seconds, and others are served meanwhile."""
    monkeypatch.setattr(key_set, "READ_SECONDS", 1.0)
    issuer.answer = answer
    with ThreadPoolExecutor(2) as pool:
        begun = time.monotonic()
        waiting = pool.submit(client.get, ME, headers=_as(issuer.token()))
        assert client.get("/health/live").status_code == 200
        answered = waiting.result()
    assert_problem(answered, 503)
    assert answered.headers["Retry-After"] == "10"
    assert time.monotonic() - begun < 10
    # The next need not wait for what has just failed.
    assert_problem(client.get(ME, headers=_as(issuer.token())), 503)
    assert issuer.asked <= 1


@pytest.mark.parametrize("route", ["pooled"])
@pytest.mark.parametrize(("trusted", "status"), [(True, 201), (False, 503)])
def test_the_provider_proves_itself(
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    trusted: bool,
    status: int,
) -> None:
    """Over TLS its certificate is checked; an unknown one opens nothing."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with issuing(context) as issuer:
        for client in _client(make_settings, issuer, ENVIRONMENT="production"):
            assert _open(client, issuer.token()).status_code == status


@pytest.mark.parametrize("route", ["pooled"])
def test_people_of_both_kinds_are_told_apart(client: TestClient, issuer: Issuer, make_user: Make) -> None:
    """A subject that reads like another's number is a name like any other."""
    ada = make_user("adele")
    token = issuer.token(sub=str(ada["id"]))
    assert_problem(client.get(ME, headers=_as(token)), 401)
    assert _open(client, token).json()["id"] != ada["id"]
    form = {"username": "adele", "password": "difference engine"}
    own = client.post("/api/v1/auth/token", data=form).json()["access_token"]
    assert jwt.get_unverified_header(own)["alg"] == "HS256"
    assert client.get(ME, headers=_as(own)).json()["id"] == ada["id"]
    assert_problem(_open(client, own), 409)


PAIR = {"IDENTITY_ISSUER": "https://example.eu.auth0.com/", "IDENTITY_AUDIENCE": "api"}
CLEAR = "keys that come in the clear can be exchanged on the way. Use https://."
BESIDE = "is missing beside the other IDENTITY_ variables. Set it, or unset those."


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({**PAIR, "IDENTITY_ISSUER": "http://id.example.com"}, f"IDENTITY_ISSUER: {CLEAR}"),
        ({**PAIR, "IDENTITY_JWKS_URL": "http://id.example.com/jwks"}, f"IDENTITY_JWKS_URL: {CLEAR}"),
        ({"IDENTITY_ISSUER": PAIR["IDENTITY_ISSUER"]}, f"IDENTITY_AUDIENCE: {BESIDE}"),
        ({"IDENTITY_AUDIENCE": "api"}, f"IDENTITY_ISSUER: {BESIDE}"),
        ({"IDENTITY_JWKS_URL": "https://id.example.com/jwks"}, f"IDENTITY_ISSUER: {BESIDE}"),
    ],
)
def test_half_a_provider_is_refused_at_the_start(given: dict[str, str], line: str) -> None:
    """Without an audience every token of the provider would do, and without TLS anybody's keys."""
    with pytest.raises(SettingsError) as refused:
        checked(ExampleSettings, {**given, "ENVIRONMENT": "production"})
    assert list(refused.value.problems) == [line]
    assert checked(ExampleSettings, {**PAIR, "ENVIRONMENT": "production"})


@pytest.mark.parametrize("given", [{}, PAIR], ids=["without", "with"])
def test_a_provider_costs_no_import_at_the_start(given: dict[str, str]) -> None:
    """Cryptography is imported by the first token, and nothing of a provider where there is none."""
    code = "import sys, api.index; print(*{'cryptography', 'jwt', 'lib.example.provider'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(DATABASE_URL="postgresql://u:p@127.0.0.1:9/d", **given),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == (["lib.example.provider"] if given else [])
