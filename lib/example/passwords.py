"""Passwords: kept as Argon2id hashes, computed at the same cost whether or not there is one kept."""

from __future__ import annotations

import re
from base64 import b64decode
from functools import cache
from hashlib import sha256
from pathlib import Path

# The smallest that OWASP recommends: many instances share little memory.
_TIME_COST, _MEMORY_KIB, _PARALLELISM = 2, 19_456, 1
_HASH_BYTES = 32
_CURRENT = f"$argon2id$v=19$m={_MEMORY_KIB},t={_TIME_COST},p={_PARALLELISM}$"
# Parameters and salt of a hash without a user.
NOBODYS = f"{_CURRENT}N5RaEX0dEypPRq3AQA1ToQ$"
_SALTED = re.compile(r"\$argon2id\$v=(\d+)\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$")
# The first bytes of SHA-256 of each of the 3,000 commonest passwords of eight characters and more, in lower
# case, sorted (by the frequency list of zxcvbn, MIT).
_COMMON = Path(__file__).parent / "common_passwords.bin"
_DIGEST_BYTES = 5


def hashed(password: str) -> str:
    """The hash to keep of a new password."""
    # Imported where it is used: a request that needs no password does not wait for it.
    from argon2 import PasswordHasher  # noqa: PLC0415

    return PasswordHasher(_TIME_COST, _MEMORY_KIB, _PARALLELISM).hash(password)


def computed(password: str, salted: str | None) -> str:
    """The hash of a password with these parameters and salt; without any, the same work for nothing."""
    from argon2.low_level import Type, hash_secret  # noqa: PLC0415  (as above)

    version, memory, time, parallelism, salt = _parsed(salted or NOBODYS)
    return hash_secret(
        password.encode(), salt, time, memory, parallelism, _HASH_BYTES, Type.ID, version
    ).decode()


def is_outdated(salted: str) -> bool:
    """Return True if a hash was made with other parameters than today's."""
    return not salted.startswith(_CURRENT)


def is_common(password: str) -> bool:
    """Return True for one of the passwords that are tried first."""
    return sha256(password.lower().encode()).digest()[:_DIGEST_BYTES] in _common()


@cache
def _common() -> frozenset[bytes]:
    data = _COMMON.read_bytes()
    return frozenset(data[at : at + _DIGEST_BYTES] for at in range(0, len(data), _DIGEST_BYTES))


def _parsed(salted: str) -> tuple[int, int, int, int, bytes]:
    found = _SALTED.fullmatch(salted)
    if found is None:
        # Of another kind of hash: no password fits it.
        return _parsed(NOBODYS)
    version, memory, time, parallelism, salt = found.groups()
    return int(version), int(memory), int(time), int(parallelism), b64decode(salt + "=" * (-len(salt) % 4))
