"""People, and whose a row is."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from lib.example.columns import CreatedAt, Role, Row, Versioned, enum
from lib.models import Base


class User(Row, CreatedAt, Versioned, Base):
    """A person with an account; without a password, one who cannot log in."""

    __tablename__ = "users"

    username: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(254))
    # No role but the owner's may read it: the functions that log people in compare it.
    password_hash: Mapped[str | None] = mapped_column(String(255), deferred=True, deferred_raiseload=True)
    role: Mapped[Role] = mapped_column(enum(Role), server_default=Role.USER.value)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    subject: Mapped[str | None] = mapped_column(String(255), unique=True)
    tokens_since: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), deferred=True, deferred_raiseload=True
    )

    __table_args__ = (
        CheckConstraint("char_length(username) >= 3", name="username_length"),
        # One account for each, however it is spelt.
        Index("users_username_key", func.lower(text("username")), unique=True),
        Index("users_email_key", func.lower(text("email")), unique=True),
    )


def owner() -> Mapped[int]:
    """A column that names the person to whom the row belongs: the caller, unless another is said."""
    return mapped_column(ForeignKey(User.id, ondelete="CASCADE"), server_default=text("caller_id()"))
