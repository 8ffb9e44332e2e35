"""The example's settings: the keys of its tokens."""

from __future__ import annotations

from pydantic import SecretStr, ValidationInfo, field_validator

from lib.onetrip.settings.checked import CheckedSettings, rules, setting
from lib.onetrip.settings.strength import NEW_KEY, weakness

# As long as the output of HS256: a shorter key can be guessed at leisure, from a single token.
MIN_KEY_BYTES, MIN_KEY_BITS = 32, 90.0


class ExampleSettings(CheckedSettings):
    """What the example's tokens are signed with, and where they hold."""

    jwt_secret_key: SecretStr | None = setting(
        "JWT_SECRET_KEY",
        says="32 random bytes or more: what access tokens are signed with; short and guessable keys are "
        "refused outside development. Secret. Default: in development one that is made at each start; "
        "elsewhere none, and users cannot log in.",
    )
    jwt_issuer: str | None = setting(
        "JWT_ISSUER",
        says="a name such as production.example.com: this deployment in its tokens, which hold nowhere else. "
        "Default: its environment and a digest of the database's host and name.",
        pattern=r"^[\x21-\x7e]+$",
        max_length=200,
    )
    jwt_previous_secret_key: SecretStr | None = setting(
        "JWT_PREVIOUS_SECRET_KEY",
        says="32 random bytes or more: the key before, whose tokens are still taken while keys are rotated. "
        "Secret. Default: none.",
    )

    @field_validator("jwt_secret_key", "jwt_previous_secret_key")
    @classmethod
    def _no_weak_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is None or rules(info.data.get("environment")) == "development":
            return key
        wrong = weakness(key.get_secret_value(), min_bytes=MIN_KEY_BYTES, min_bits=MIN_KEY_BITS)
        if wrong:
            raise ValueError(f"{wrong} {NEW_KEY}")
        return key
