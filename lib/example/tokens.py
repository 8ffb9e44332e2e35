"""Access tokens: signed, for one person, for a while."""

from __future__ import annotations

import logging
import secrets
import time
from functools import lru_cache

from lib.example.pagination import MAX_BIGINT
from lib.onetrip.settings.settings import Settings
from lib.onetrip.settings.signing_key import NEW_KEY

ALGORITHM = "HS256"
LIFETIME_SECONDS = 1800
_MAX_DIGITS = 19

logger = logging.getLogger(__name__)


class InvalidTokenError(Exception):
    """The token is not ours, or no longer good."""


class NoKeyError(Exception):
    """There is no key to sign with."""


class Tokens:
    """Issues tokens with the key of now, and takes those of the key before as well.

    A token says who, never what they may do: that is asked of the database each time.
    """

    def __init__(self, settings: Settings) -> None:
        current, previous = settings.jwt_secret_key, settings.jwt_previous_secret_key
        self._keys = [key.get_secret_value() for key in (current, previous) if key]
        if current is None:
            # Elsewhere the rest of the service works without, and whoever needs one is told.
            self._keys = [_development_key(), *self._keys] if settings.is_development else []

    def issue(self, user_id: int) -> str:
        """A token for this person, from now on."""
        import jwt  # noqa: PLC0415  (a request that needs no token does not pay for it)

        self._require_keys()
        now = int(time.time())
        claims = {"sub": str(user_id), "iat": now, "exp": now + LIFETIME_SECONDS}
        return jwt.encode(claims, self._keys[0], algorithm=ALGORITHM)

    def user_id(self, token: str) -> int:
        """Whose token it is; raise `InvalidTokenError` unless it is signed by us and not over."""
        import jwt  # noqa: PLC0415  (see above)

        self._require_keys()
        for key in self._keys:
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[ALGORITHM],
                    options={"require": ["exp", "sub"], "verify_aud": False},
                )
            except jwt.InvalidSignatureError:
                continue
            # A claim that is signed may still be nonsense: infinite, nested, of another type.
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                break
            return _user_id(claims["sub"])
        raise InvalidTokenError

    def _require_keys(self) -> None:
        if not self._keys:
            logger.error("JWT_SECRET_KEY: is missing, so nobody can log in. %s", NEW_KEY)
            raise NoKeyError


def _user_id(subject: str) -> int:
    if not (subject.isascii() and subject.isdigit() and len(subject) <= _MAX_DIGITS):
        raise InvalidTokenError
    number = int(subject)
    if not 1 <= number <= MAX_BIGINT:
        raise InvalidTokenError
    return number


@lru_cache(maxsize=1)
def _development_key() -> str:
    return secrets.token_urlsafe(32)
