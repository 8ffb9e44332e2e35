"""The example's tables, the role that requests run as, and the rows that it may see."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).parent / "0001_example"


def upgrade() -> None:
    for part in ("tables", "serving_role", "functions", "login", "triggers", "policies"):
        op.execute((SQL / f"{part}.sql").read_text())


def downgrade() -> None:
    op.execute((SQL / "downgrade.sql").read_text())
