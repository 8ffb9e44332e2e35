"""People: listed, changed, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from lib.example.columns import Role
from lib.example.pagination import Order
from lib.example.tables.people import User
from lib.example.versions import Versions, unchanged
from lib.onetrip.session.session import LAST

NEWEST_LAST = Order("id", User.id, User.id)
# Fields that only an administrator changes.
GRANTED = {"role", "is_active", "subject"}


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


def change(
    session: Session, user_id: int, values: Mapping[str, Any], versions: Versions = None
) -> User | None:
    """Change a user as the unit's last statement; None if it is not allowed, or there is no such user."""
    where = (User.id == user_id, *unchanged(User, versions))
    statement = update(User).where(*where).values(values).returning(User)
    if GRANTED & values.keys():
        statement = statement.where(func.caller_is(Role.ADMIN.value))
    return session.scalar(statement, execution_options=LAST)


def remove(session: Session, user_id: int, versions: Versions = None) -> bool:
    """Delete a user with all their rows; return False if it is not allowed, or there is no such user."""
    where = (User.id == user_id, *unchanged(User, versions))
    statement = delete(User).where(*where).returning(User.id)
    return session.scalar(statement, execution_options=LAST) is not None
