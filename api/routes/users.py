"""Users: create, list, read, change, delete."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import Field, StringConstraints
from sqlalchemy import delete, update

from api.dependencies import ReadSessionDep, SessionDep
from api.platform_route import PlatformRoute
from api.routes.fields import Email, Flag, Id, Input, Output, SearchText
from api.routes.pages import PageOut, PageQuery, page_of
from lib.example.models import Role, User
from lib.example.page import Page
from lib.example.users import NEWEST_LAST, matching
from lib.session import LAST

router = APIRouter(prefix="/users", tags=["users"], route_class=PlatformRoute)

Username = Annotated[
    str,
    StringConstraints(min_length=3, max_length=50, pattern=r"^[A-Za-z0-9_.-]+$"),
    Field(examples=["ada"]),
]


class UserIn(Input):
    username: Username
    email: Email


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


@router.post("", status_code=201, response_model=UserOut)
def create_user(user: UserIn, session: SessionDep, response: Response) -> User:
    """Create a user; 409 if the username or email is taken, whatever its case."""
    row = User(**user.model_dump())
    session.add(row)
    session.flush()
    response.headers["Location"] = f"/api/v1/users/{row.id}"
    return row


@router.get("", response_model=PageOut[UserOut])
def list_users(session: ReadSessionDep, query: Annotated[UserQuery, Query()]) -> Page[User]:
    """Users in the order of their creation."""
    return page_of(session, matching(text=query.q, email=query.email), NEWEST_LAST, query)


@router.get("/{user_id}", response_model=UserOut)
def read_user(user_id: Id, session: ReadSessionDep) -> User:
    """One user."""
    return _found(session.get(User, user_id))


@router.patch("/{user_id}", response_model=UserOut)
def change_user(user_id: Id, change: UserChange, session: SessionDep) -> User:
    """Change the fields that are sent, in one statement and one round trip."""
    values = change.model_dump(exclude_unset=True)
    if not values:
        return _found(session.get(User, user_id))
    statement = update(User).where(User.id == user_id).values(values).returning(User)
    return _found(session.scalar(statement, execution_options=LAST))


@router.delete("/{user_id}", status_code=204)
def delete_user(user_id: Id, session: SessionDep) -> None:
    """Delete a user and their tasks."""
    statement = delete(User).where(User.id == user_id).returning(User.id)
    if session.scalar(statement, execution_options=LAST) is None:
        raise HTTPException(404, "There is no such user.")


def _found(user: User | None) -> User:
    if user is None:
        raise HTTPException(404, "There is no such user.")
    return user
