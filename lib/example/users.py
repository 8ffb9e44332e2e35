"""People: added, listed, changed, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from lib.example.columns import Role
from lib.example.models import User
from lib.example.pagination import Order
from lib.onetrip.session.session import LAST

NEWEST_LAST = Order("id", User.id, User.id)
# What only an administrator changes, on anyone.
GRANTED = {"role", "is_active"}


def matching(*, text: str | None = None, email: str | None = None) -> Select[User]:
    """Users whose name or email contains `text`, and whose email is `email`, whatever their case."""
    statement = select(User)
    if text is not None:
        statement = statement.where(
            or_(User.username.icontains(text, autoescape=True), User.email.icontains(text, autoescape=True))
        )
    if email is not None:
        statement = statement.where(func.lower(User.email) == func.lower(email))
    return statement


def add(session: Session, values: Mapping[str, Any]) -> User:
    """Add a user as the unit's last statement."""
    statement = insert(User).values(values).returning(User)
    return session.scalars(statement, execution_options=LAST).one()


def change(session: Session, user_id: int, values: Mapping[str, Any]) -> User | None:
    """Change a user as the unit's last statement; None if the caller may not, or nobody is there."""
    statement = update(User).where(User.id == user_id).values(values).returning(User)
    if GRANTED & values.keys():
        statement = statement.where(func.caller_is(Role.ADMIN.value))
    return session.scalar(statement, execution_options=LAST)


def remove(session: Session, user_id: int) -> bool:
    """Delete a user with all that goes with them; whether the caller might, and somebody was there."""
    statement = delete(User).where(User.id == user_id).returning(User.id)
    return session.scalar(statement, execution_options=LAST) is not None
