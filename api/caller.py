"""Who calls: a token's person, and sessions in which the database lets them see what is theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.orm import Session

from lib.example.columns import Role
from lib.example.identity import Caller, NotAdmittedError, refusal
from lib.example.tokens import InvalidTokenError, NoKeyError
from lib.onetrip.fastapi.sessions import DatabaseDep, opened
from lib.onetrip.pool.database import Database
from lib.onetrip.session.session import Options, reading, transaction

LOGIN_PATH = "/api/v1/auth/token"
_token = OAuth2PasswordBearer(tokenUrl=LOGIN_PATH, auto_error=False)
Opener = Callable[[Database, Options], AbstractContextManager[Session]]
NOT_SET_UP = "Logging in is not set up here."
STAFF = (Role.ADMIN, Role.MODERATOR)


async def get_caller(request: Request, token: Annotated[str | None, Depends(_token)]) -> Caller:
    """The person whose token came along; 401 without a good one."""
    if token is None:
        raise unauthorized("Log in, and send the token: Authorization: Bearer ...")
    try:
        return Caller(request.app.state.tokens.user_id(token))
    except InvalidTokenError:
        raise unauthorized("The token is not good, or no longer. Log in again.") from None
    except NoKeyError:
        raise HTTPException(503, NOT_SET_UP) from None


CallerDep = Annotated[Caller, Depends(get_caller)]


def unauthorized(detail: str) -> HTTPException:
    """401, with the challenge that belongs to it."""
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


@contextmanager
def admitted() -> Iterator[None]:
    """Within the block, a caller whom the database refuses gets 401 or 403."""
    try:
        yield
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        if isinstance(refused, NotAdmittedError):
            raise unauthorized("This account is gone or switched off.") from error
        raise HTTPException(403, "Your role does not allow this.") from error


def _session(opener: Opener, *roles: Role) -> Any:
    """The dependency that opens sessions of the caller's, if they have one of `roles`."""

    async def get_caller_session(database: DatabaseDep, caller: CallerDep) -> AsyncIterator[Session]:
        with admitted():
            async with opened(database, opener, caller.options(*roles)) as session:
                yield session

    # As with every session: the commit comes before the response exists.
    return Depends(get_caller_session, scope="function")


# The caller's counterparts of SessionDep and ReadSessionDep, for anyone and for some.
CallerSessionDep = Annotated[Session, _session(transaction)]
CallerReadSessionDep = Annotated[Session, _session(reading)]
StaffReadSessionDep = Annotated[Session, _session(reading, *STAFF)]
AdminSessionDep = Annotated[Session, _session(transaction, Role.ADMIN)]
