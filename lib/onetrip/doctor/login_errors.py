"""The meaning of a login that failed, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import DeadlineExceededError, SecretError
from ..server_messages import found_in
from ..url.database_url import DatabaseURL
from .result import quoted


def meaning(error: Exception, url: DatabaseURL, secrets: Iterable[str]) -> tuple[str, str]:
    """Return the problem of a failed login, and its remedy."""
    if isinstance(error, SecretError | DeadlineExceededError):
        return quoted(error, secrets), "See the check secret."
    for message in found_in(str(error)):
        who = f"{url.user or 'no role'} at {url.host or 'this machine'}, database {url.database or '-'}"
        return f"{message.meaning} ({who})", message.remedy
    return f'the login failed: "{quoted(error, [*secrets, url.password or ""])}"', "Look at the server's log."
