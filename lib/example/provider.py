"""Tokens of an identity provider: signed elsewhere, for people whom its subjects name."""

from __future__ import annotations

from typing import Any

from lib.example.identity import Caller, InvalidTokenError
from lib.example.key_set import KeySet

# Each key has one of these by its type; a token's own word for it is only compared.
ALGORITHMS = ("RS256", "ES256", "EdDSA")
# Clocks differ.
LEEWAY_SECONDS = 30
MAX_SUBJECT = 255
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
# Where providers name the client that a token is for: all by `aud`, and in place of it some in these.
_CLIENT_CLAIMS = ("client_id", "azp")


class Provider:
    """Takes the access tokens of one issuer that are meant for this application."""

    def __init__(self, issuer: str, audience: str, key_set: KeySet) -> None:
        self._issuer = issuer
        self._audience = audience
        self._key_set = key_set

    async def caller(self, token: str, header: dict[str, Any]) -> Caller:
        """The person whom the token names; `InvalidTokenError` unless it is the provider's and good."""
        name = header.get("kid")
        if header.get("alg") not in ALGORITHMS or "crit" in header or not isinstance(name, str):
            raise InvalidTokenError
        kind = header.get("typ")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
            raise InvalidTokenError
        key = await self._key_set.key(name)
        if key is None or key.algorithm_name != header["alg"]:
            raise InvalidTokenError
        return Caller(subject=self._subject(self._claims(token, key)))

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        import jwt  # noqa: PLC0415  (a request that needs no token does not pay for it)

        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["iss", "sub", "exp"], "verify_aud": False},
            )
        # A claim that is signed may still be nonsense: infinite, nested, of another type.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidTokenError from None
        if not self._is_meant(claims) or claims.get("token_use", "access") != "access":
            raise InvalidTokenError
        return claims

    def _is_meant(self, claims: dict[str, Any]) -> bool:
        """True if the token is for this application, not for another that trusts the provider too."""
        if "aud" not in claims:
            return self._audience in [claims.get(name) for name in _CLIENT_CLAIMS]
        audience = claims["aud"]
        return self._audience in (audience if isinstance(audience, list) else [audience])

    def _subject(self, claims: dict[str, Any]) -> str:
        """The person's name in the database: the subject, which is unique with its issuer alone."""
        given = claims["sub"]
        if not isinstance(given, str) or not given.isprintable() or not given.strip():
            raise InvalidTokenError
        subject = f"{self._issuer} {given}"
        if len(subject) > MAX_SUBJECT:
            raise InvalidTokenError
        return subject
