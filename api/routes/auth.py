"""Accounts of people: register, log in for a token, change a password."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api.caller import (
    NOT_SET_UP,
    CallerDep,
    NetworkDep,
    unauthenticated,
    within,
)
from api.hashing import hashing
from api.routes.route import FormRoute, Route
from api.routes.types import Email, Id, Input, NewPassword, Output, Text, Username
from api.routes.users import UserOut
from lib.example import login, passwords
from lib.example.columns import CALLER, Role
from lib.example.tables.people import User
from lib.example.tokens import LIFETIME_SECONDS, NoKeyError
from lib.onetrip.fastapi.concurrency import call
from lib.onetrip.fastapi.problem_details import Refusal, problem_response, problems
from lib.onetrip.fastapi.sessions import DatabaseDep

MIN_DISTINCT = 4
router = APIRouter(tags=["auth"], route_class=Route, responses=problems(422, 503, 504))


class Profile(Input):
    username: Username
    email: Email


class Registration(Profile):
    password: NewPassword


class Credentials(BaseModel):
    """OAuth2's password form. What else a client sends is ignored, as the standard says."""

    model_config = ConfigDict(extra="ignore")

    username: Annotated[
        Text, Field(min_length=1, max_length=254, examples=["ada"], description="the username or the email")
    ]
    password: Annotated[Text, Field(min_length=1, max_length=200, examples=["difference engine"])]
    grant_type: Literal["password"] = "password"


class Token(Output):
    access_token: str = Field(examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.AA"])
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  (no secret)
    expires_in: int = Field(LIFETIME_SECONDS, description="seconds")


class OAuthError(BaseModel):
    """An error as RFC 6749 has it (5.2), beside the members of every other problem."""

    error: Literal["invalid_request", "invalid_grant", "unsupported_grant_type"]
    error_description: str


class PasswordChange(Input):
    current_password: Annotated[Text, Field(min_length=1, max_length=200, examples=["difference engine"])]
    new_password: NewPassword


class PasswordReset(Input):
    new_password: NewPassword


class TokenRoute(FormRoute):
    """The route whose errors OAuth describes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def described(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                wrong = {part["loc"][-1] for part in error.errors()}
                name = "unsupported_grant_type" if wrong == {"grant_type"} else "invalid_request"
                return _oauth_error(request, name, f"Look at: {', '.join(sorted(map(str, wrong)))}.")

        return described


@router.post(
    "/auth/register", status_code=201, response_model=UserOut, responses=problems(409, 413, 415, 429)
)
async def register(new: Registration, database: DatabaseDep, network: NetworkDep, response: Response) -> User:
    """Open an account for oneself; 409 if the username or email is taken, whatever its case."""
    _refuse_guessable(new.password, "password", new.username, new.email.partition("@")[0])
    async with unauthenticated(database) as session:
        _refuse_too_many(await call(login.begin_registration, session, network))
    kept = await hashing(network, passwords.hashed, new.password)
    async with unauthenticated(database) as session:
        values = {"username": new.username, "email": new.email, "password_hash": kept}
        user = await call(login.register, session, values)
    response.headers["Location"] = f"/api/v1/users/{user.id}"
    return user


@router.post(
    "/users/me", status_code=201, response_model=UserOut, responses=problems(401, 409, 413, 415, 429)
)
async def sign_up(
    new: Profile, database: DatabaseDep, caller: CallerDep, network: NetworkDep, response: Response
) -> User:
    """Open an account for the person of an identity provider's token; 409 if they or the name have one."""
    if caller.subject is None:
        raise Refusal(409, "already-exists", "The token is of an account already.")
    async with unauthenticated(database) as session:
        _refuse_too_many(await call(login.begin_registration, session, network))
    async with within(database, caller.unadmitted) as session:
        values = {"username": new.username, "email": new.email, "password_hash": None}
        user = await call(login.register, session, values)
    response.headers["Location"] = f"/api/v1/users/{user.id}"
    return user


async def log_in(
    form: Annotated[Credentials, Form()], request: Request, database: DatabaseDep, network: NetworkDep
) -> Any:
    """A token for half an hour.

    Ten wrong tries in a quarter of an hour close a name for the network that they came from (429).
    """
    async with unauthenticated(database) as session:
        wait, salted = await call(login.begin, session, form.username, network)
    _refuse_too_many(wait)
    # No connection is held meanwhile, and an unknown name takes as long as a known one.
    computed = await hashing(network, passwords.computed, form.password, salted)
    renewed = None
    if salted and passwords.is_outdated(salted):
        renewed = await hashing(network, passwords.hashed, form.password)
    async with unauthenticated(database) as session:
        user_id = await call(login.finish, session, form.username, network, computed, renewed)
    if user_id is None:
        return _oauth_error(request, "invalid_grant", "There is no such account with this password.")
    try:
        return Token(access_token=request.app.state.tokens.issue(user_id))
    except NoKeyError:
        raise HTTPException(503, NOT_SET_UP) from None


router.add_api_route(
    "/auth/token",
    log_in,
    methods=["POST"],
    response_model=Token,
    responses=problems(413, 415, 429) | {400: {"description": "RFC 6749's errors", "model": OAuthError}},
    route_class_override=TokenRoute,
)


@router.post(
    "/users/me/password",
    status_code=204,
    response_class=Response,
    responses=problems(401, 403, 413, 415, 429),
)
async def change_password(
    change: PasswordChange, database: DatabaseDep, caller: CallerDep, network: NetworkDep
) -> None:
    """Change one's own password; every token that was issued before is refused from then on."""
    _refuse_guessable(change.new_password, "new_password")
    async with within(database, caller.options()) as session:
        wait, salted = await call(login.begin_change, session)
    _refuse_too_many(wait)
    computed = await hashing(network, passwords.computed, change.current_password, salted)
    new = await hashing(network, passwords.hashed, change.new_password)
    async with within(database, caller.options()) as session:
        if not await call(login.change_password, session, CALLER, computed, new):
            raise Refusal(403, "wrong-password", "The current password is another.")


@router.post(
    "/users/{user_id:row}/password",
    status_code=204,
    response_class=Response,
    responses=problems(401, 403, 404, 413, 415, 429),
)
async def reset_password(
    user_id: Id, reset: PasswordReset, database: DatabaseDep, caller: CallerDep, network: NetworkDep
) -> None:
    """Give another user a new password, as an administrator; their tokens are refused from then on."""
    _refuse_guessable(reset.new_password, "new_password")
    new = await hashing(network, passwords.hashed, reset.new_password)
    async with within(database, caller.options(Role.ADMIN)) as session:
        if not await call(login.change_password, session, user_id, None, new):
            raise HTTPException(404, "There is no such user whose password is yours to reset.")


def _refuse_guessable(password: str, field: str, *names: str) -> None:
    """422 for a password that is tried first: a common one, one's own name, next to nothing."""
    if (
        len(set(password)) < MIN_DISTINCT
        or password.lower() in {name.lower() for name in names}
        or passwords.is_common(password)
    ):
        part = {"type": "guessable", "loc": ("body", field), "msg": "Choose a password that is less common"}
        raise RequestValidationError([part])


def _refuse_too_many(wait_seconds: float | None) -> None:
    if wait_seconds is not None:
        wait = {"Retry-After": str(max(1, math.ceil(wait_seconds)))}
        raise Refusal(429, "too-many-tries", "Too many tries from this network.", wait)


def _oauth_error(request: Request, error: str, detail: str) -> JSONResponse:
    response = problem_response(
        request.scope,
        400,
        kind=error.replace("_", "-"),
        detail=detail,
        error=error,
        error_description=detail,
    )
    response.headers["Content-Type"] = "application/json"
    return response
