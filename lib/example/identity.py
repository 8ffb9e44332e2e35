"""Who asks, said to the database in the same flight as the question.

Each transaction of a caller's gives up the connection's own role for one that row-level security binds,
names the caller, and has the database admit them: an account that is gone, switched off or not of the
role that is needed is found out before anything else is done, and costs no round trip.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.example.columns import Role
from lib.onetrip.connection.dialect import GUARD, SETTINGS
from lib.onetrip.session.session import Options

DATABASE_ROLE = "app_caller"
_ADMIT = "SELECT admit_caller(VARIADIC %s::text[])"
_NO_ACCOUNT, _NO_ROLE = "U0401", "U0403"


class NotAdmittedError(Exception):
    """The caller has no account any more, or one that is switched off."""


class RoleError(Exception):
    """The caller's role does not suffice."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person as their token names them."""

    id: int

    def options(self, *roles: Role) -> Options:
        """What makes a session the caller's, if they have one of `roles` (any, if none is named)."""
        accepted = ",".join(roles or Role)
        return {
            SETTINGS: {"role": DATABASE_ROLE, "app.caller_id": str(self.id)},
            GUARD: (_ADMIT, [f"{{{accepted}}}"]),
        }


def refusal(error: BaseException) -> NotAdmittedError | RoleError | None:
    """What the database meant if it refused the caller, else None."""
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)
    if sqlstate == _NO_ACCOUNT:
        return NotAdmittedError()
    return RoleError() if sqlstate == _NO_ROLE else None
