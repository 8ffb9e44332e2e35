"""The meaning of a refused login, derived from the words of the server."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import DeadlineExceededError, SecretError
from ..url.database_url import DatabaseURL
from .result import quoted

_CONSOLE = "Copy the URL anew (on Neon from its console)"
_RESET = f"{_CONSOLE}, or reset the role's password; write @ : / ? # % in it percent-encoded."
_AGAIN = "Try again in a few seconds; if it fails again, look at the server (on Neon at its compute)."
_FEWER = "Set DATABASE_MODE=pooled, or a smaller DATABASE_POOL_SIZE; the check budget counts."
_WAKING = (
    r"starting up|shutting down|not (yet )?accepting|recovery|connect to compute|acquire permit"
    r"|control plane request failed"
)
# English messages of PostgreSQL, PgBouncer, Neon's proxy and libpq, with their meaning and remedy. libpq
# has no SQLSTATE for a failed login. Names stand in quotes and are removed before the search.
WORDS = (
    (r"no password", "the server wants a password, and the URL has none", f"{_CONSOLE}, with its password."),
    (r"password authentication failed|SASL auth", "the password is refused", _RESET),
    (r"not permitted to log in", "the role may not log in", "ALTER ROLE ... LOGIN, or use another role."),
    (
        r"permission denied for database",
        "the role may not connect to this database",
        "As its owner: GRANT CONNECT ON DATABASE ... TO ...",
    ),
    (
        r"address.*not allowed",
        "this machine's address is not on Neon's IP allow list",
        "Add it in Neon's console: the project's settings, IP Allow.",
    ),
    (r"channel binding", "the server offers no channel binding", "Connect to Neon itself, not by a proxy."),
    (r"role +does not exist|no such user", "there is no such role", f"{_CONSOLE}, or create the role."),
    (
        r"database +does not exist|no such database",
        "there is no such database",
        f"{_CONSOLE}, or create the database.",
    ),
    (
        r"pg_hba",
        "the server's pg_hba.conf does not let this role in from here",
        "Add a line for it there, or set DATABASE_TLS=require if it wants TLS.",
    ),
    (
        r"too many (clients|connections)|connection slots|no more connections",
        "the server has no connection left",
        _FEWER,
    ),
    (r"endpoint is disabled", "Neon's endpoint is disabled", "Enable the compute in Neon's console."),
    (r"endpoint.*(not found|not be found|does not exist)", "there is no such endpoint", f"{_CONSOLE}."),
    (r"quota|limit exceeded", "the project is over its quota", "Look at the plan in Neon's console."),
    (
        _WAKING,
        "the server is still waking up or restarting",
        _AGAIN,
    ),
    (
        r"unsupported startup parameter",
        "a pooler refuses what the URL's options set",
        "Take options out of the URL; the application sets its timeouts in each transaction.",
    ),
    (
        r"refused",
        "no server listens at the port",
        "Start the server, or correct the host or port in the URL.",
    ),
    (r"certificate|SSL|TLS", "TLS failed", "See the check tls."),
    (
        r"deadline is over|timeout|timed out",
        "the server takes the connection and then does not answer",
        "Restart what listens there; on Neon look at its status page and the compute in its console.",
    ),
)


def meaning(error: Exception, url: DatabaseURL, secrets: Iterable[str]) -> tuple[str, str]:
    """Return the problem of a failed login, and its remedy."""
    if isinstance(error, SecretError | DeadlineExceededError):
        return quoted(error, secrets), "See the check secret."
    said = re.sub(r'"[^"]*"', "", str(error))
    login = f" ({url.user or 'no user'} at {url.host or 'this machine'}, database {url.database or '-'})"
    for words, meaning, remedy in WORDS:
        if re.search(words, said, re.IGNORECASE):
            return meaning + login, remedy
    return f'the login failed: "{quoted(error, [*secrets, url.password or ""])}"', "Look at the server's log."
