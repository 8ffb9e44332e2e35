"""Passwords: kept as Argon2id hashes, checked at the same cost whether or not there is one."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

# The smallest that OWASP recommends: many instances share little memory.
_TIME_COST, _MEMORY_KIB, _PARALLELISM = 2, 19_456, 1
# Of a password that nobody has kept, made with these costs.
NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$N5RaEX0dEypPRq3AQA1ToQ$koxPB6rULW8xEfapOBPkb8+8A69V3oll1ulei3v+bxA"


def hashed(password: str) -> str:
    """What is kept of a password."""
    return _hasher().hash(password)


def matches(password: str, kept: str | None) -> bool:
    """Whether the password is the one that was kept; where none was, the same work is done for nothing."""
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415  (as below)

    try:
        return _hasher().verify(kept or NOBODYS, password) and kept is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(kept: str) -> bool:
    """Whether a hash was made with other costs than those of now."""
    return _hasher().check_needs_rehash(kept)


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    # Here, so that only who logs in waits for it.
    from argon2 import PasswordHasher  # noqa: PLC0415

    return PasswordHasher(_TIME_COST, _MEMORY_KIB, _PARALLELISM)
