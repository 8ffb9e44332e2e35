"""The logged-in user of a request, and sessions in which the database lets them see what is theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lib.example.columns import Role
from lib.example.identity import UNAUTHENTICATED, Caller, InvalidTokenError, UnavailableError, refusal
from lib.example.tokens import NoKeyError
from lib.onetrip.fastapi.client_address import client_network
from lib.onetrip.fastapi.problem_details import Refusal
from lib.onetrip.fastapi.services import services_of
from lib.onetrip.fastapi.sessions import DatabaseDep, opened
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import Options, reading, transaction

LOGIN_PATH = "/api/v1/auth/token"
_token = OAuth2PasswordBearer(tokenUrl=LOGIN_PATH, auto_error=False)
Opener = Callable[[Database, Options], AbstractContextManager[Session]]
NOT_SET_UP = "Logging in is not set up here."
STAFF = (Role.ADMIN, Role.MODERATOR)
REALM = 'Bearer realm="api"'
# The refusals of the example's functions and triggers, by SQLSTATE.
_REFUSALS: dict[str, tuple[int, str, str]] = {
    "U0402": (409, "insufficient-funds", "There is not enough money in the account."),
    "U0403": (403, "role-required", "Your role does not allow this."),
    "U0409": (409, "last-administrator", "At least one active administrator remains."),
    "U0411": (409, "money-in-account", "There is money in the account. Send it elsewhere first."),
    "U0422": (422, "missing-reference", "There is no such account, or it is not yours to take from."),
}
# The fields that must be unique, by the constraint that says so.
_UNIQUE = {
    "users_username_key": "username",
    "users_email_key": "email",
    "tags_owner_id_name_key": "name",
    "users_subject_key": "subject",
}


async def get_network(request: Request) -> str:
    """The network that the request comes from."""
    return client_network(request.scope, services_of(request).settings)


NetworkDep = Annotated[str, Depends(get_network)]


async def get_caller(
    request: Request, token: Annotated[str | None, Depends(_token)], network: NetworkDep
) -> Caller:
    """The person whose token came along; 401 without a good one."""
    if not token:
        raise unauthorized("Log in, and send the token: Authorization: Bearer ...", error=False)
    try:
        caller: Caller = await request.app.state.tokens.caller(token)
    except InvalidTokenError:
        raise unauthorized("The token is not good, or no longer. Log in again.") from None
    except NoKeyError:
        raise HTTPException(503, NOT_SET_UP) from None
    except UnavailableError as error:
        wait = {"Retry-After": f"{error.args[0]:.0f}"}
        detail = "The identity provider cannot be asked for its keys."
        raise Refusal(503, "identity-provider-unavailable", detail, wait) from None
    return Caller(caller.id, caller.subject, caller.issued_at, network)


CallerDep = Annotated[Caller, Depends(get_caller)]


def unauthorized(detail: str, *, error: bool = True) -> Refusal:
    """401 with the challenge of RFC 6750, which names the token as the error if there was one."""
    challenge = f'{REALM}, error="invalid_token", error_description="{detail}"' if error else REALM
    kind = "invalid-token" if error else "token-required"
    return Refusal(401, kind, detail, {"WWW-Authenticate": challenge})


@contextmanager
def admitted() -> Iterator[None]:
    """Within the block, what the database refuses becomes the refusal that clients are told."""
    try:
        yield
    except IntegrityError as error:
        name = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        if name not in _UNIQUE:
            raise
        field = _UNIQUE[name]
        part = {"loc": ["body", field], "msg": "is taken"}
        raise Refusal(409, "already-exists", f"This {field} is taken.", errors=[part]) from error
    except Exception as error:
        code = refusal(error)
        if code is None:
            raise
        if code not in _REFUSALS:
            raise unauthorized("This account is gone or switched off, or the token is older.") from error
        raise Refusal(*_REFUSALS[code]) from error


@asynccontextmanager
async def within(
    database: Database, options: Options, opener: Opener = transaction
) -> AsyncIterator[Session]:
    """A session with these options, whose refusals are told to the client."""
    with admitted():
        async with opened(database, opener, options) as session:
            yield session


def unauthenticated(database: Database) -> AbstractAsyncContextManager[Session]:
    """A session of a client that has not logged in."""
    return within(database, UNAUTHENTICATED)


def _session(opener: Opener, *roles: Role) -> Any:
    """The dependency that opens sessions of the caller's, if they have one of `roles`."""

    async def get_caller_session(database: DatabaseDep, caller: CallerDep) -> AsyncIterator[Session]:
        async with within(database, caller.options(*roles), opener) as session:
            yield session

    # As with every session: the commit comes before the response exists.
    return Depends(get_caller_session, scope="function")


# The caller's counterparts of SessionDep and ReadSessionDep, for anyone and for some.
CallerSessionDep = Annotated[Session, _session(transaction)]
CallerReadSessionDep = Annotated[Session, _session(reading)]
StaffReadSessionDep = Annotated[Session, _session(reading, *STAFF)]
AdminSessionDep = Annotated[Session, _session(transaction, Role.ADMIN)]
