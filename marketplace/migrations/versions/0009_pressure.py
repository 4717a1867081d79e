"""How busy each process is taking events in, and how many events waited for others."""

import sqlalchemy as sa
from alembic import op

from kernel import columns

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column(
        "worker", sa.Column("busy_percent", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("worker", sa.Column("busy_at", columns.Moment(), nullable=True))
    op.add_column("usage", sa.Column("deferred", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop them again."""
    op.drop_column("usage", "deferred")
    op.drop_column("worker", "busy_at")
    op.drop_column("worker", "busy_percent")
