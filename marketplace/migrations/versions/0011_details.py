"""What runs' steps sent and got goes in its time, and a portal carries its firm's logo."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def upgrade() -> None:
    op.add_column("run", sa.Column("details_removed_at", columns.Moment(), nullable=True))
    op.add_column("run", sa.Column("details_kept_days", sa.Integer(), nullable=True))
    over = sa.text(
        "state IN ('succeeded', 'skipped', 'cancelled') AND details_removed_at IS NULL"
    )
    op.create_index(
        "ix_run_detailed",
        "run",
        ["organization_id", "finished_at"],
        sqlite_where=over,
        postgresql_where=over,
    )
    op.create_table(
        "portal_logo",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", TEXT(length=40), nullable=False),
        sa.Column("id", TEXT(length=40), nullable=False),
        sa.Column("content_type", TEXT(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE portal_logo ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE portal_logo FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON portal_logo USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    """Go back; an endpoint that was deleted is one that is switched off to the older code."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT set_config('app.organization_id', '*', true)")
    op.execute(
        "UPDATE endpoint SET state = 'disabled', disabled_reason = 'by_hand'"
        " WHERE state = 'deleted'"
    )
    op.drop_table("portal_logo")
    op.drop_index("ix_run_detailed", "run")
    op.drop_column("run", "details_kept_days")
    op.drop_column("run", "details_removed_at")
