"""Tokens: whose they are, where they hold, and for how long."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.application import create_app
from lib.example import tokens
from lib.example.tokens import Tokens
from lib.onetrip.pool.database import Database
from lib.onetrip.settings.settings import Settings, load_settings
from tests.example.conftest import Make
from tests.onetrip.assertions import assert_problem
from tests.onetrip.environment import JWT_SECRET_KEY

ME = "/api/v1/users/me"
OTHER_KEY = "b1Xv8Qm3Kz6Wp9Rt2Yh5Nc7Jd4Fg0LsA"
LEFT_OUT: Any = object()
SUBJECTS: tuple[Any, ...] = (1, None, [], {}, True, "", "0", "-1", "1.0", "٣", "x", "9" * 19, "4711")
# Refused requests never reach a connection.
pytestmark = pytest.mark.parametrize("route", ["pooled"])


def _me(client: TestClient, token: str) -> Any:
    return client.get(ME, headers={"Authorization": f"Bearer {token}"})


class Signer:
    """Makes tokens like the application's, but for what a test changes."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = tokens.issuer(settings)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token with `changes`."""
        now = int(time.time())
        claims = {"iss": self._issuer, "aud": "api", "sub": "1", "iat": now, "exp": now + 600, **changes}
        return {name: value for name, value in claims.items() if value is not LEFT_OUT}

    def token(
        self,
        key: str = JWT_SECRET_KEY,
        algorithm: str = "HS256",
        typ: str | None = tokens.TYPE,
        **changes: Any,
    ) -> str:
        """A token with these claims, of whatever type they are: the library would refuse to sign some."""
        body = json.dumps(self.claims(**changes)).encode()
        return jwt.PyJWS().encode(body, key, algorithm=algorithm, headers={"typ": typ})


@pytest.fixture
def signer(database: Database) -> Signer:
    """Signs for this test's application."""
    return Signer(database.settings)


def _unsigned(claims: dict[str, Any], algorithm: str) -> str:
    parts = ({"alg": algorithm, "typ": tokens.TYPE}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join(encoded) + "."


def _bad_tokens(signer: Signer) -> dict[str, str]:
    now = int(time.time())
    later, good = now + 600, signer.token()
    return {
        "over": signer.token(iat=now - 900, exp=now - 60),
        "issued later": signer.token(iat=now + 120),
        "longer than ours": signer.token(exp=now + tokens.LIFETIME_SECONDS + 1),
        "for ever": signer.token(exp=32503680000),
        **{
            f"without {name}": signer.token(**{name: LEFT_OUT})
            for name in ("iss", "aud", "sub", "iat", "exp")
        },
        "another issuer": signer.token(iss="https://preview.example"),
        "issuers": signer.token(iss=["https://preview.example", signer.claims()["iss"]]),
        "another audience": signer.token(aud="another-service"),
        "audiences": signer.token(aud=["api", "another-service"]),
        "another type": signer.token(typ="JWT"),
        "no type": signer.token(typ=None),
        "another key": signer.token(OTHER_KEY),
        "another algorithm": signer.token(JWT_SECRET_KEY * 2, "HS512"),
        "no algorithm": _unsigned(signer.claims(), "none"),
        "no signature": _unsigned(signer.claims(), "HS256"),
        "changed": good[:-6] + ("A" * 6 if good[-6:] != "A" * 6 else "B" * 6),
        "not yet": signer.token(nbf=later),
        "endless": signer.token(exp=float("inf")),
        "end: text": signer.token(exp="soon"),
        "end: list": signer.token(exp=[later]),
        "begin: list": signer.token(iat=[now]),
        "begin: NaN": signer.token(iat=float("nan")),
        **{f"sub: {sub!r}": signer.token(sub=sub) for sub in SUBJECTS},
        "no token": "a.b.c",
        "no text": "\u00ff.b.c",
    }


def test_a_token_that_is_not_good_is_401(client: TestClient, signer: Signer, make_user: Make) -> None:
    """Signed by us, with our algorithm, for this deployment, for an existing user, and not expired."""
    make_user("ada")
    assert _me(client, signer.token()).status_code == 200
    for name, token in _bad_tokens(signer).items():
        response = client.get(ME, headers={b"Authorization": b"Bearer " + token.encode("latin-1")})
        assert response.status_code == 401, name
        assert_problem(response, 401, "invalid-token")
        assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_clocks_may_differ_by_some_seconds(client: TestClient, signer: Signer, make_user: Make) -> None:
    """A token that was issued by an instance whose clock is ahead is taken."""
    make_user("ada")
    assert _me(client, signer.token(iat=int(time.time()) + 10)).status_code == 200


def test_a_token_holds_in_its_own_deployment_alone(
    make_settings: Callable[..., Settings], make_user: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one key in two environments, or on two databases, a token of one is worth nothing in the other."""
    user = make_user("ada")
    monkeypatch.delenv("JWT_ISSUER")
    production = make_settings(ENVIRONMENT="production")
    token = Tokens(production).issue(user["id"])
    preview = Database(make_settings(ENVIRONMENT="preview"))
    with TestClient(create_app(preview)) as client:
        assert_problem(_me(client, token), 401, "invalid-token")
        assert _me(client, create_app(preview).state.tokens.issue(user["id"])).status_code == 200
    preview.close()
    issuers = {
        tokens.issuer(load_settings(DATABASE_URL=f"postgresql://u:p@{host}.aws.neon.tech/app"))
        for host in ("ep-one-1", "ep-one-1-pooler", "ep-two-2")
    }
    assert len(issuers) == 2


def test_keys_are_rotated_without_anyone_logging_in_again(
    app: FastAPI, make_settings: Callable[..., Settings], make_user: Make
) -> None:
    """Tokens of the key before are taken while it is named; new ones are of the new key alone."""
    make_user("ada")
    old = app.state.tokens.issue(1)
    for previous, status in (({"JWT_PREVIOUS_SECRET_KEY": JWT_SECRET_KEY}, 200), ({}, 401)):
        database = Database(make_settings(JWT_SECRET_KEY=OTHER_KEY, **previous))
        rotated = create_app(database)
        with TestClient(rotated) as client:
            assert _me(client, old).status_code == status
            new = rotated.state.tokens.issue(1)
            assert jwt.decode(new, OTHER_KEY, algorithms=["HS256"], audience="api")["sub"] == "1"
            assert _me(client, new).status_code == 200
        database.close()
