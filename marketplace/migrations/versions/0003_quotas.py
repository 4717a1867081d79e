"""How much an organization may send, what it has sent, what waits and what was refused."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TENANT_TABLES = ("backlog", "quota", "refusals", "usage")

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def upgrade() -> None:
    with op.batch_alter_table("organization", schema=None) as batch_op:
        batch_op.add_column(sa.Column("weight", sa.Integer(), nullable=False, server_default="10"))
        batch_op.create_check_constraint("organization_weight_known", "weight BETWEEN 1 AND 100")
    op.create_table(
        "quota",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("per_minute", sa.Integer(), nullable=True),
        sa.Column("burst", sa.Integer(), nullable=True),
        sa.Column("per_day", sa.Integer(), nullable=True),
        sa.Column("backlog", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_table(
        "usage",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("hour", columns.Moment(), nullable=False),
        sa.Column("source_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("admitted", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("duplicate", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("refused_proof", sa.Integer(), nullable=False),
        sa.Column("refused_form", sa.Integer(), nullable=False),
        sa.Column("refused_limit", sa.Integer(), nullable=False),
        sa.Column("refused_pause", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.Column("undelivered", sa.Integer(), nullable=False),
        sa.Column("ran", sa.Integer(), nullable=False),
        sa.Column("stuck", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_index("ix_usage_hour", "usage", ["hour"])
    op.create_table(
        "backlog",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("counted_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_index("ix_backlog_counted", "backlog", ["counted_at"])
    op.create_table(
        "refusals",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("counts", columns.Document(), nullable=False),
        sa.Column("latest", columns.Document(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in TENANT_TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    """Go back; quotas, weights and what was counted go."""
    for table in reversed(TENANT_TABLES):
        op.drop_table(table)
    with op.batch_alter_table("organization", schema=None) as batch_op:
        batch_op.drop_constraint("organization_weight_known", type_="check")
        batch_op.drop_column("weight")
