"""The messages of PostgreSQL, PgBouncer, Neon's proxy and libpq about a connect that failed.

libpq gives no SQLSTATE for it, only a text, in English. One table says what each means, whether it is
transient, and what to do; retries, the health probe and the doctor are views of it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

# login: the server knows another password, or no such role. final: another try gives the same answer.
# waking, transient: another try may succeed. unclear: the text does not tell.
Kind = Literal["login", "final", "waking", "transient", "unclear"]

_CONSOLE = "Copy the URL anew (on Neon from its console)"
_RESET = f"{_CONSOLE}, or reset the role's password; write @ : / ? # % in it percent-encoded."
_AGAIN = (
    "Try again in a few seconds; if it stays so, look at the server (on Neon at the compute in its console)."
)
_FEWER = "Set DATABASE_MODE=pooled, or a smaller DATABASE_POOL_SIZE; the check budget counts."
_START = "Start the server, or correct the host or port in the URL."
_RESTART = "Restart what listens there; on Neon look at its status page and the compute in its console."


class Message(NamedTuple):
    """A pattern of words, its kind, its meaning and the remedy."""

    words: str
    kind: Kind
    meaning: str
    remedy: str

    def is_in(self, text: str) -> bool:
        """Return True if `text`, without its quoted names, holds the words."""
        return bool(re.search(self.words, text, re.IGNORECASE))


# The first match gives the meaning. Names stand in quotes and are removed before the search.
MESSAGES = (
    Message(
        "no password",
        "login",
        "the server wants a password, and the URL has none",
        f"{_CONSOLE}, with its password.",
    ),
    Message("authentication failed|SASL auth", "login", "the password is refused", _RESET),
    Message(
        "role +does not exist|no such user",
        "login",
        "there is no such role",
        f"{_CONSOLE}, or create the role.",
    ),
    Message(
        "not permitted to log in",
        "final",
        "the role may not log in",
        "ALTER ROLE ... LOGIN, or use another role.",
    ),
    Message(
        "permission denied for database",
        "final",
        "the role may not connect to this database",
        "As its owner: GRANT CONNECT ON DATABASE ... TO ...",
    ),
    Message(
        "address.*not allowed",
        "final",
        "this machine's address is not on Neon's IP allow list",
        "Add it in Neon's console: the project's settings, IP Allow.",
    ),
    Message(
        "channel binding",
        "final",
        "the server offers no channel binding",
        "Connect to Neon itself, not by a proxy.",
    ),
    Message(
        "endpoint.*(not found|not be found|does not exist)",
        "final",
        "there is no such endpoint",
        f"{_CONSOLE}.",
    ),
    Message(
        "database +does not exist|no such database|does not exist",
        "final",
        "there is no such database",
        f"{_CONSOLE}, or create the database.",
    ),
    Message(
        "pg_hba",
        "final",
        "the server's pg_hba.conf does not let this role in from here",
        "Add a line for it there, or set DATABASE_TLS=require if it wants TLS.",
    ),
    Message(
        "too many (clients|connections)|connection slots|no more connections",
        "transient",
        "the server has no connection left",
        _FEWER,
    ),
    Message(
        "endpoint is disabled",
        "final",
        "Neon's endpoint is disabled",
        "Enable the compute in Neon's console.",
    ),
    Message(
        "quota|limit exceeded",
        "final",
        "the project is over its quota",
        "Look at the plan in Neon's console.",
    ),
    Message(
        "starting up|not (yet )?accepting|in recovery|recovery mode|to compute node"
        "|acquire permit|control plane request failed",
        "waking",
        "the server is still waking up or restarting",
        _AGAIN,
    ),
    Message(
        "shutting down|pooler is shut|bouncer is shutting|server_login|server conn crashed|recovery",
        "transient",
        "the server is still waking up or restarting",
        _AGAIN,
    ),
    Message(
        "unsupported startup parameter",
        "final",
        "a pooler refuses what the URL's options set",
        "Take options out of the URL; the application sets its timeouts in each transaction.",
    ),
    Message("refused", "transient", "no server listens at the port", _START),
    Message(
        "reset by peer|broken pipe|closed the connection|closed unexpectedly|unexpected eof|eof detected",
        "transient",
        "the connection was closed before the login",
        _RESTART,
    ),
    Message("certificate|SSL|TLS", "unclear", "TLS failed", "See the check tls."),
    Message(
        "deadline is over|timeout|timed out|unreachable|no route|temporary failure|try again",
        "transient",
        "the server takes the connection and then does not answer",
        _RESTART,
    ),
)
_NAMES = re.compile(r'"[^"]*"')


def found_in(text: str) -> list[Message]:
    """Return the messages in `text`, which may be about several addresses or tries."""
    words = _NAMES.sub("", text)
    return [message for message in MESSAGES if message.is_in(words)]


def refuses_login(text: str) -> bool:
    """Return True if the server knows another password, or no such role."""
    return any(message.kind == "login" for message in found_in(text))


def is_waking(text: str) -> bool:
    """Return True if the server is starting up, as a suspended compute does."""
    return any(message.kind == "waking" for message in found_in(text))


def is_transient(text: str) -> bool:
    """Return True if another try may succeed; one final refusal among several messages is a no."""
    kinds = {message.kind for message in found_in(text)}
    return bool(kinds & {"waking", "transient"}) and not kinds & {"login", "final"}
