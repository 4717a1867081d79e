"""Looks for missing events, and when the hub was last there."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def _partial(name: str, column: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name, "reconciliation", [column], sqlite_where=condition, postgresql_where=condition
    )


def upgrade() -> None:
    text = sqlmodel.sql.sqltypes.AutoString
    op.create_table(
        "reconciliation",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(length=40), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        sa.Column("connection_id", text(), nullable=False),
        sa.Column("input", columns.Document(), nullable=False),
        sa.Column("state", text(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=False),
        sa.Column("look_at", columns.Moment(), nullable=False),
        sa.Column("cursor", columns.Moment(), nullable=False),
        sa.Column("progress", columns.Document(), nullable=True),
        sa.Column("missing", columns.Document(), nullable=False),
        sa.Column("last", columns.Document(), nullable=True),
        sa.Column("last_at", columns.Moment(), nullable=True),
        sa.Column("skew_seconds", sa.Integer(), nullable=False),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.Column("found_count", sa.Integer(), nullable=False),
        sa.Column("asked_count", sa.Integer(), nullable=False),
        sa.Column("fetched_count", sa.Integer(), nullable=False),
        sa.Column("failed_count", sa.Integer(), nullable=False),
        sa.Column("called_at", columns.Moment(), nullable=True),
        sa.Column("lease_owner", text(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    _partial("ix_reconciliation_next", "next_at", "state = 'waiting'")
    _partial("ix_reconciliation_leased", "lease_until", "state = 'leased'")
    op.create_index(
        "ix_reconciliation_connection", "reconciliation", ["organization_id", "connection_id"]
    )
    op.create_table(
        "heartbeat",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        sa.Column("beat_at", columns.Moment(), nullable=False),
        sa.Column("away_from", columns.Moment(), nullable=True),
        sa.Column("away_until", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE reconciliation ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE reconciliation FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON reconciliation USING ({POLICY}) WITH CHECK ({POLICY})"
        )


def downgrade() -> None:
    op.drop_table("heartbeat")
    op.drop_table("reconciliation")
