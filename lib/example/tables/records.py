"""What the database's own functions write."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, LargeBinary, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from lib.example.columns import Row
from lib.models import Base


class Attempts(Base):
    """The tries of one kind (a name from a network, say), counted since a moment."""

    __tablename__ = "attempts"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    count: Mapped[int]
    since: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


class Audit(Row, Base):
    """A record of who did what to whom, from where; the database's functions and triggers write it."""

    __tablename__ = "audit"

    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    action: Mapped[str] = mapped_column(String(50))
    actor_id: Mapped[int | None] = mapped_column(BigInteger)
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    network: Mapped[str | None] = mapped_column(String(50))
    detail: Mapped[dict[str, Any] | None] = mapped_column(JSONB)

    __table_args__ = (Index("audit_target_id_idx", "target_id", "at"),)
