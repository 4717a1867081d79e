"""Approvals: what runs ask people, and what they decided."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def upgrade() -> None:
    text = sqlmodel.sql.sqltypes.AutoString
    op.create_table(
        "approval",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(length=40), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        sa.Column("flow_id", text(), nullable=False),
        sa.Column("run_id", text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("key", text(), nullable=False),
        sa.Column("title", text(), nullable=False),
        sa.Column("text", text(), nullable=False),
        sa.Column("roles", columns.Document(), nullable=False),
        sa.Column("members", columns.Document(), nullable=False),
        sa.Column("state", text(), nullable=False),
        sa.Column("at_deadline", text(), nullable=False),
        sa.Column("deadline_at", columns.Moment(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("reminded_at", columns.Moment(), nullable=True),
        sa.Column("comment", text(), nullable=True),
        sa.Column("decided_by", text(), nullable=True),
        sa.Column("decided_name", text(), nullable=True),
        sa.Column("decided_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    condition = sa.text("state = 'open'")
    op.create_index(
        "ix_approval_next",
        "approval",
        ["next_at"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
    op.create_index("ix_approval_state", "approval", ["organization_id", "state", "id"])
    op.create_index("ix_approval_run", "approval", ["organization_id", "run_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE approval ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE approval FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON approval USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    op.drop_table("approval")
