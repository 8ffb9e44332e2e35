"""Lists of users."""

from __future__ import annotations

from sqlalchemy import Select, func, or_, select

from lib.example.models import User
from lib.example.page import Order

NEWEST_LAST = Order("id", User.id, User.id)


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
