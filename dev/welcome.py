"""The example's part in `make dev`: rows to begin with, a key, and a command to try."""

import secrets

from lib.example.settings import ExampleSettings

# One process for both: importing takes longer than what they do.
PREPARE = (
    "import alembic.config, lib.example.seed as seed; alembic.config.main(['upgrade', 'head']); seed.main()"
)
# Logs in as the example's first user, whose password lib/example/seed.py tells.
LOG_IN = "curl -sd 'username=ada&password=difference engine' {url}/api/v1/auth/token | cut -d'\"' -f4"
EXAMPLE = f"curl -sH \"Authorization: Bearer $({LOG_IN})\" '{{url}}/api/v1/tasks?sort=-priority&limit=2'"


def made_variables() -> dict[str, str]:
    """A signing key, so that people stay logged in when the API reloads; none if one is given."""
    if ExampleSettings.is_given("jwt_secret_key"):
        return {}
    return {"JWT_SECRET_KEY": secrets.token_urlsafe(32)}
