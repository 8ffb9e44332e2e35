"""Accounts of people: register, and log in for a token."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, ParamSpec, TypeVar

import anyio
from fastapi import APIRouter, Form, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.caller import NOT_SET_UP, unauthorized
from api.routes.types import Email, Input, NewPassword, Output, Text, Username
from api.routes.users import UserOut
from lib.example import login_attempts as logins
from lib.example import passwords, users
from lib.example.models import User
from lib.example.tokens import LIFETIME_SECONDS, NoKeyError
from lib.onetrip.fastapi.concurrency import call, runs_inline
from lib.onetrip.fastapi.problem_details import problems
from lib.onetrip.fastapi.sessions import DatabaseDep, opened
from lib.onetrip.session.session import transaction

P = ParamSpec("P")
R = TypeVar("R")

router = APIRouter(prefix="/auth", tags=["auth"], responses=problems(422, 503, 504))

# Each hash takes a processor and 19 MiB: more at once would only wait for each other.
HASHES_AT_ONCE = 4
_hashing = anyio.CapacityLimiter(HASHES_AT_ONCE)


class Registration(Input):
    username: Username
    email: Email
    password: NewPassword


class Credentials(BaseModel):
    """OAuth2's password form. What else a client sends is ignored, as the standard says."""

    model_config = ConfigDict(extra="ignore")

    username: Annotated[Text, Field(min_length=1, max_length=200, examples=["ada"])]
    password: Annotated[Text, Field(min_length=1, max_length=200, examples=["difference engine"])]
    grant_type: Literal["password"] = "password"


class Token(Output):
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  (no secret)
    expires_in: int = Field(LIFETIME_SECONDS, description="seconds")


@router.post("/register", status_code=201, response_model=UserOut, responses=problems(409, 413))
async def register(new: Registration, database: DatabaseDep, response: Response) -> User:
    """Open an account for oneself; 409 if the username or email is taken, whatever its case."""
    kept = await hashing(passwords.hashed, new.password)
    async with opened(database, transaction) as session:
        user = await call(
            users.add, session, {"username": new.username, "email": new.email, "password_hash": kept}
        )
    response.headers["Location"] = f"/api/v1/users/{user.id}"
    return user


@router.post("/token", responses=problems(400, 401, 413, 429))
async def log_in(
    form: Annotated[Credentials, Form()], request: Request, database: DatabaseDep, response: Response
) -> Token:
    """A token for half an hour; 429 after ten wrong tries under one name, for a quarter of an hour."""
    async with opened(database, transaction) as session:
        attempt = await call(logins.attempt, session, form.username)
    if attempt.wait_seconds is not None:
        wait = {"Retry-After": str(max(1, math.ceil(attempt.wait_seconds)))}
        raise HTTPException(429, "Too many wrong tries under this name.", wait)
    # No connection is held meanwhile; and it takes as long for a name that nobody has.
    matches = await hashing(passwords.matches, form.password, attempt.password_hash)
    if not (matches and attempt.is_active and attempt.user_id and attempt.password_hash):
        raise unauthorized("There is no such account with this password.")
    renewed = None
    if passwords.is_outdated(attempt.password_hash):
        renewed = await hashing(passwords.hashed, form.password)
    async with opened(database, transaction) as session:
        await call(logins.succeeded, session, form.username, attempt.user_id, renewed)
    response.headers["Cache-Control"] = "no-store"
    try:
        return Token(access_token=request.app.state.tokens.issue(attempt.user_id))
    except NoKeyError:
        raise HTTPException(503, NOT_SET_UP) from None


async def hashing(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Compute here where nobody waits for the loop, else in one of few worker threads."""
    if runs_inline.get():
        return function(*args, **kwargs)
    return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=_hashing)
