"""Access tokens: signed, for one person of one deployment, for a while."""

from __future__ import annotations

import logging
import secrets
import time
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from lib.example.identity import Caller, InvalidTokenError
from lib.example.pagination import MAX_BIGINT
from lib.example.settings import ExampleSettings
from lib.onetrip.settings.settings import Settings
from lib.onetrip.settings.strength import NEW_KEY

if TYPE_CHECKING:
    from lib.example.provider import Provider

ALGORITHM = "HS256"
LIFETIME_SECONDS = 1800
# Clocks of instances differ.
LEEWAY_SECONDS = 30
AUDIENCE = "api"
# RFC 9068's name of an access token: no other token that the key signs is taken for one.
TYPE = "at+jwt"
_MAX_DIGITS = 19
_REQUIRED = ["iss", "aud", "sub", "iat", "exp"]

logger = logging.getLogger(__name__)


class NoKeyError(Exception):
    """There is no key to sign with."""


class Tokens:
    """Issues tokens with the key of now, and takes those of the key before as well.

    A token names a person, never their rights: the database is asked for those each time.
    """

    def __init__(self, settings: Settings) -> None:
        own = settings.own(ExampleSettings)
        current, previous = own.jwt_secret_key, own.jwt_previous_secret_key
        self._keys = [key.get_secret_value() for key in (current, previous) if key]
        if current is None:
            # Elsewhere the rest of the service works without, and logging in tells what is missing.
            self._keys = [_development_key(), *self._keys] if settings.is_development else []
        self._issuer = issuer(settings)
        self._provider = _provider(own)

    def issue(self, user_id: int) -> str:
        """A token for this person, from now on."""
        import jwt  # noqa: PLC0415  (a request that needs no token does not pay for it)

        self._require_keys()
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }
        return jwt.encode(claims, self._keys[0], algorithm=ALGORITHM, headers={"typ": TYPE})

    async def caller(self, token: str) -> Caller:
        """The person whom the token names; `InvalidTokenError` unless it is ours and good."""
        if self._provider is not None:
            header = _header(token)
            if not self._keys or header.get("alg") != ALGORITHM:
                return await self._provider.caller(token, header)
        self._require_keys()
        for key in self._keys:
            claims = self._claims(token, key)
            if claims is not None:
                return Caller(_user_id(claims["sub"]), issued_at=_moment(claims))
        raise InvalidTokenError

    def _claims(self, token: str, key: str) -> dict[str, Any] | None:
        """Return the claims of the token; None if another key signed it."""
        import jwt  # noqa: PLC0415  (as above)

        try:
            decoded = jwt.decode_complete(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED, "strict_aud": True},
            )
        except jwt.InvalidSignatureError:
            return None
        # A claim that is signed may still be nonsense: infinite, nested, of another type.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidTokenError from None
        if decoded["header"].get("typ") != TYPE:
            raise InvalidTokenError
        claims: dict[str, Any] = decoded["payload"]
        return claims

    def _require_keys(self) -> None:
        if not self._keys:
            logger.error("JWT_SECRET_KEY: is missing, so users cannot log in. %s", NEW_KEY)
            raise NoKeyError


def _provider(own: ExampleSettings) -> Provider | None:
    if own.identity_issuer is None or own.identity_audience is None:
        return None
    from lib.example.key_set import KeySet  # noqa: PLC0415  (who has no provider does not pay for one)
    from lib.example.provider import Provider  # noqa: PLC0415  (as above)

    url = own.identity_jwks_url or f"{own.identity_issuer.rstrip('/')}/.well-known/jwks.json"
    return Provider(own.identity_issuer, own.identity_audience, KeySet(url))


def _header(token: str) -> dict[str, Any]:
    """What a token says of itself, which nothing vouches for yet."""
    import jwt  # noqa: PLC0415  (as above)

    try:
        return dict(jwt.get_unverified_header(token))
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidTokenError from None


def issuer(settings: Settings) -> str:
    """The name of this deployment in its tokens: its environment, and a digest of the database it uses.

    Numbers of people mean nothing elsewhere: a preview's token is worth nothing in production, though both
    may have been given one key.
    """
    if given := settings.own(ExampleSettings).jwt_issuer:
        return given
    if settings.secret is not None:
        place = settings.secret.name
    else:
        url = settings.direct_url
        place = f"{url.host}/{url.database}"
    return f"{settings.environment_name}:{sha256(place.encode()).hexdigest()[:16]}"


def _user_id(subject: Any) -> int:
    if not (isinstance(subject, str) and subject.isascii() and subject.isdigit()):
        raise InvalidTokenError
    if len(subject) > _MAX_DIGITS or not 1 <= int(subject) <= MAX_BIGINT:
        raise InvalidTokenError
    return int(subject)


def _moment(claims: dict[str, Any]) -> float:
    """The time of issue; a token that holds longer than ours do is none of ours."""
    try:
        issued, until = float(claims["iat"]), float(claims["exp"])
    except (ValueError, TypeError, OverflowError):
        raise InvalidTokenError from None
    if not 0 < until - issued <= LIFETIME_SECONDS:
        raise InvalidTokenError
    return issued


@lru_cache(maxsize=1)
def _development_key() -> str:
    return secrets.token_urlsafe(32)
