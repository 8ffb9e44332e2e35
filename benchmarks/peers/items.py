"""The table that every design serves."""

from datetime import datetime

from sqlalchemy import DateTime, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TABLE = """
    CREATE TABLE items (
        id bigserial PRIMARY KEY, title text NOT NULL, status text NOT NULL DEFAULT 'todo',
        created_at timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO items (title) SELECT 'item ' || number FROM generate_series(1, 1000) AS number;
"""


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'todo'"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
