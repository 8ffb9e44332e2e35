"""Requests that are made once."""

from __future__ import annotations

from sqlalchemy import ForeignKey, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from lib.example.columns import CreatedAt
from lib.example.tables.people import User
from lib.models import Base


class IdempotencyKey(CreatedAt, Base):
    """A key that a client made up for a request, and the answer that the request got."""

    __tablename__ = "idempotency_keys"

    owner_id: Mapped[int] = mapped_column(
        ForeignKey(User.id, ondelete="CASCADE"), primary_key=True, server_default=text("caller_id()")
    )
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[str | None] = mapped_column(Text)
    location: Mapped[str | None] = mapped_column(String(200))
