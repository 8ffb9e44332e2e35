"""The caller of a request, named to the database in the same round trip as the request's first statement.

Each transaction of a caller's runs as a role that row-level security binds, names the caller, and has the
database admit them: an account that is gone, switched off or not of the role that is needed is refused
before anything else is done, and the check costs no round trip.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.example.columns import Role
from lib.onetrip.connection.dialect import GUARD, SETTINGS
from lib.onetrip.session.session import Options

DATABASE_ROLE = "app_caller"
_ADMIT = "SELECT admit_caller(VARIADIC %s::text[])"
_COMMON = {"role": DATABASE_ROLE}
# A session of a client that has not logged in: it sees no rows, and may call the functions that log in.
UNAUTHENTICATED: Options = {SETTINGS: _COMMON}


class InvalidTokenError(Exception):
    """The token is not ours, or no longer good."""


class UnavailableError(Exception):
    """Whether a token is good cannot be known before some seconds are over, the error's argument."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person as their token names them: by id, or by another service's subject."""

    id: int | None = None
    subject: str | None = None
    # Seconds since 1970, of the token.
    issued_at: float | None = None
    # The network that the request came from, for the record.
    network: str = ""

    def options(self, *roles: Role) -> Options:
        """Execution options that make a session the caller's, if they have one of `roles` (default: any)."""
        accepted = ",".join(roles or Role)
        return {**self.unadmitted, GUARD: (_ADMIT, [f"{{{accepted}}}"])}

    @property
    def unadmitted(self) -> Options:
        """Options that name the caller, who may have no account: for the functions that open one."""
        named = {
            "app.caller_id": self.id,
            "app.caller_subject": self.subject,
            "app.caller_token_at": self.issued_at,
            "app.caller_network": self.network or None,
        }
        given = {name: str(value) for name, value in named.items() if value is not None}
        return {SETTINGS: {**_COMMON, **given}}


def refusal(error: BaseException) -> str | None:
    """The SQLSTATE with which the example's functions and triggers refused (U...), else None."""
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)
    return sqlstate if isinstance(sqlstate, str) and sqlstate.startswith("U0") else None
