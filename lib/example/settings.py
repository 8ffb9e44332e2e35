"""The example's settings: the keys of its tokens."""

from __future__ import annotations

from importlib.util import find_spec

from pydantic import SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from lib.onetrip.settings.checked import WHOLE_LINE, CheckedSettings, rules, setting
from lib.onetrip.settings.strength import NEW_KEY, weakness

# As long as the output of HS256: a shorter key can be guessed at leisure, from a single token.
MIN_KEY_BYTES, MIN_KEY_BITS = 32, 90.0
URL = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[\x21-\x7e]*)?$"


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

    identity_issuer: str | None = setting(
        "IDENTITY_ISSUER",
        says="the `iss` of a provider's tokens, such as https://example.eu.auth0.com/: people log in there, "
        "and their tokens are taken beside those of the example. Default: none.",
        pattern=URL,
        max_length=150,
    )
    identity_audience: str | None = setting(
        "IDENTITY_AUDIENCE",
        says="the `aud` of the tokens that are meant for this application: required with the one above. "
        "Default: none.",
        pattern=r"^[\x21-\x7e]+$",
        max_length=500,
    )
    identity_jwks_url: str | None = setting(
        "IDENTITY_JWKS_URL",
        says="https://host/path: where the provider shows its public keys. "
        "Default: /.well-known/jwks.json under the issuer.",
        pattern=URL,
        max_length=500,
        validate_default=True,
    )

    @field_validator("identity_issuer", "identity_jwks_url")
    @classmethod
    def _no_clear_text(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url and not url.startswith("https://") and rules(info.data.get("environment")) != "development":
            raise ValueError("keys that come in the clear can be exchanged on the way. Use https://.")
        return url

    @field_validator("identity_jwks_url")
    @classmethod
    def _complete(cls, url: str | None, info: ValidationInfo) -> str | None:
        # The last of the three, since each needs the others.
        given = {name: info.data.get(f"identity_{name}") for name in ("issuer", "audience")}
        if not (url or any(given.values())) or not info.data.keys() >= {
            "identity_issuer",
            "identity_audience",
        }:
            return url
        if missing := [f"IDENTITY_{name.upper()}" for name, value in given.items() if not value]:
            line = f"{missing[0]}: is missing beside the other IDENTITY_ variables. Set it, or unset those."
            raise PydanticCustomError(WHOLE_LINE, line)
        if find_spec("cryptography") is None:
            line = "IDENTITY_ISSUER: needs the package cryptography. Add it to the requirements, or unset it."
            raise PydanticCustomError(WHOLE_LINE, line)
        return url

    @field_validator("jwt_secret_key", "jwt_previous_secret_key")
    @classmethod
    def _no_weak_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is None or rules(info.data.get("environment")) == "development":
            return key
        wrong = weakness(key.get_secret_value(), min_bytes=MIN_KEY_BYTES, min_bits=MIN_KEY_BITS)
        if wrong:
            raise ValueError(f"{wrong} {NEW_KEY}")
        return key
