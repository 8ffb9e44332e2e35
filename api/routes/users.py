"""Users: everyone sees and changes themselves; moderators see all, administrators change all."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import Field
from sqlalchemy.orm import Session

from api.caller import CallerDep, CallerReadSessionDep, CallerSessionDep, StaffReadSessionDep
from api.routes.pagination import PageOut, PageQuery, page_of
from api.routes.types import Email, Flag, Id, Input, Output, SearchText, Username
from lib.example import users
from lib.example.models import Role, User
from lib.example.pagination import Page
from lib.onetrip.fastapi.problem_details import problems

router = APIRouter(prefix="/users", tags=["users"], responses=problems(401, 422, 503, 504))


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
    created_at: datetime


class UserQuery(PageQuery):
    q: SearchText | None = Field(default=None, description="part of the username or email")
    email: Email | None = None


@router.get("", response_model=PageOut[UserOut], responses=problems(403))
def list_users(session: StaffReadSessionDep, query: Annotated[UserQuery, Query()]) -> Page[User]:
    """Users in the order of their creation; for moderators and administrators."""
    return page_of(session, users.matching(text=query.q, email=query.email), users.NEWEST_LAST, query)


@router.get("/me", response_model=UserOut, responses=problems(404))
def read_me(session: CallerReadSessionDep, caller: CallerDep) -> User:
    """The user whose token it is."""
    return _found(session.get(User, caller.id))


@router.get("/{user_id:row}", response_model=UserOut, responses=problems(404))
def read_user(user_id: Id, session: CallerReadSessionDep) -> User:
    """One user: oneself, or for moderators and administrators anyone."""
    return _found(session.get(User, user_id))


@router.patch("/{user_id:row}", response_model=UserOut, responses=problems(403, 404, 409, 413))
def change_user(user_id: Id, change: UserChange, session: CallerSessionDep) -> User:
    """Change the fields that are sent, in one round trip; role and activity are administrators' to give."""
    values = change.model_dump(exclude_unset=True)
    if not values:
        return _found(session.get(User, user_id))
    return users.change(session, user_id, values) or _refuse(session, user_id)


@router.delete("/{user_id:row}", status_code=204, responses=problems(403, 404, 409))
def delete_user(user_id: Id, session: CallerSessionDep) -> None:
    """Delete a user with their posts, tasks and tags; 409 while they have an account."""
    if not users.remove(session, user_id):
        _refuse(session, user_id)


def _refuse(session: Session, user_id: int) -> User:
    """Say why nothing was done: not allowed on whom the caller sees, and nobody is there otherwise."""
    _found(session.get(User, user_id))
    raise HTTPException(403, "Your role does not allow this.")


def _found(user: User | None) -> User:
    if user is None:
        raise HTTPException(404, "There is no such user.")
    return user
