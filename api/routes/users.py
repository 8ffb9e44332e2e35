"""Users: everyone sees and changes themselves; moderators see all, administrators change all."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.caller import CallerReadSessionDep, CallerSessionDep, StaffReadSessionDep
from api.routes.pagination import LinksDep, PageOut, PageQuery, page_of
from api.routes.route import Route
from api.routes.types import Email, Flag, Id, Input, Moment, Output, SearchText, Username
from api.routes.versions import CONDITIONAL, VersionsDep, require_unchanged, tagged
from lib.example import users
from lib.example.columns import CALLER, Role
from lib.example.pagination import Page
from lib.example.tables.people import User
from lib.onetrip.fastapi.problem_details import Refusal, problems

router = APIRouter(prefix="/users", tags=["users"], route_class=Route, responses=problems(401, 422, 503, 504))


class UserChange(Input):
    username: Username = Field(default_factory=lambda: "")
    email: Email = Field(default_factory=lambda: "")
    role: Role = Field(default_factory=lambda: Role.USER)
    is_active: Flag = Field(default_factory=lambda: True)


class UserOut(Output):
    id: int
    username: str
    email: str
    role: Role
    is_active: bool
    created_at: Moment


class UserQuery(PageQuery):
    q: SearchText | None = Field(default=None, description="part of the username or email")
    email: Email | None = None


@router.get("", response_model=PageOut[UserOut], responses=problems(403))
def list_users(
    session: StaffReadSessionDep, query: Annotated[UserQuery, Query()], links: LinksDep
) -> Page[User]:
    """Users in the order of their creation; for moderators and administrators."""
    return page_of(session, users.matching(text=query.q, email=query.email), users.NEWEST_LAST, query, links)


@router.get("/me", response_model=UserOut, responses=problems(404))
def read_me(session: CallerReadSessionDep, response: Response) -> User:
    """The user whose token it is."""
    return tagged(response, _found(session.scalar(select(User).where(User.id == CALLER))))


@router.patch("/me", response_model=UserOut, responses=CONDITIONAL | problems(403, 409, 413, 415))
def change_me(
    change: UserChange, session: CallerSessionDep, versions: VersionsDep, response: Response
) -> User:
    """Change the fields that are sent, of the user whose token it is."""
    return _changed(session, CALLER, change, versions, response)


@router.delete("/me", status_code=204, response_class=Response, responses=CONDITIONAL | problems(404, 409))
def delete_me(session: CallerSessionDep, versions: VersionsDep) -> None:
    """Delete the user whose token it is with all that is theirs; 409 while they have money."""
    _delete(session, CALLER, versions)


@router.get("/{user_id:row}", response_model=UserOut, responses=problems(404))
def read_user(user_id: Id, session: CallerReadSessionDep, response: Response) -> User:
    """One user: oneself, or for moderators and administrators anyone."""
    return tagged(response, _found(session.get(User, user_id)))


@router.patch(
    "/{user_id:row}", response_model=UserOut, responses=CONDITIONAL | problems(403, 404, 409, 413, 415)
)
def change_user(
    user_id: Id, change: UserChange, session: CallerSessionDep, versions: VersionsDep, response: Response
) -> User:
    """Change the fields that are sent, in one round trip; role and activity are administrators' to give.

    409 if the name or email is taken, or no administrator would remain.
    """
    return _changed(session, user_id, change, versions, response)


@router.delete(
    "/{user_id:row}",
    status_code=204,
    response_class=Response,
    responses=CONDITIONAL | problems(403, 404, 409),
)
def delete_user(user_id: Id, session: CallerSessionDep, versions: VersionsDep) -> None:
    """Delete a user with all that is theirs; 409 for oneself with money, or as the last administrator.

    Transfers stay with the other side, without a name.
    """
    _delete(session, user_id, versions)


def _changed(
    session: Session, user_id: Any, change: UserChange, versions: frozenset[int] | None, response: Response
) -> User:
    values = change.model_dump(exclude_unset=True) or {"username": User.username}
    user = users.change(session, user_id, values, versions) or _refuse(session, user_id, versions)
    return tagged(response, user)


def _delete(session: Session, user_id: Any, versions: frozenset[int] | None) -> None:
    if not users.remove(session, user_id, versions):
        _refuse(session, user_id, versions)


def _refuse(session: Session, user_id: Any, versions: frozenset[int] | None) -> User:
    """Raise the reason why nothing was done: another change, not allowed on this user, or no such user."""
    seen = select(User).where(User.id == user_id)
    user = _found(session.scalar(seen))
    if versions is not None and user.version not in versions:
        require_unchanged(session, versions, seen)
    raise Refusal(403, "role-required", "Your role does not allow this.")


def _found(user: User | None) -> User:
    if user is None:
        raise HTTPException(404, "There is no such user.")
    return user
