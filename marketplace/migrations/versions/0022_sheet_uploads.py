"""Spreadsheets on their way to events; streams that the hub listens to."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0022"
down_revision = "0021"
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
        "sheet_upload",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(length=40), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        sa.Column("name", text(), nullable=False),
        sa.Column("uploaded_by", text(), nullable=False),
        sa.Column("event_type", text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("header", columns.Document(), nullable=False),
        sa.Column("columns", columns.Document(), nullable=False),
        sa.Column("fixed", columns.Document(), nullable=False),
        sa.Column("source_id", text(), nullable=True),
        sa.Column("state", text(), nullable=False),
        sa.Column("done_row", sa.Integer(), nullable=False),
        sa.Column("new_count", sa.Integer(), nullable=False),
        sa.Column("known_count", sa.Integer(), nullable=False),
        sa.Column("bad_count", sa.Integer(), nullable=False),
        sa.Column("problems", columns.Document(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("lease_owner", text(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("ended_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    condition = sa.text("state IN ('waiting', 'leased')")
    op.create_index(
        "ix_sheet_upload_due",
        "sheet_upload",
        ["next_at"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE sheet_upload ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE sheet_upload FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON sheet_upload USING ({POLICY}) WITH CHECK ({POLICY})")
    _streams()


def _streams() -> None:
    text = sqlmodel.sql.sqltypes.AutoString
    op.create_table(
        "held_stream",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(length=40), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        sa.Column("connection_id", text(), nullable=False),
        sa.Column("state", text(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=False),
        sa.Column("lease_owner", text(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("connected_at", columns.Moment(), nullable=True),
        sa.Column("last_at", columns.Moment(), nullable=True),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    condition = sa.text("state != 'off'")
    op.create_index(
        "ix_held_stream_due",
        "held_stream",
        ["next_at"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE held_stream ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE held_stream FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON held_stream USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    op.drop_table("held_stream")
    op.drop_table("sheet_upload")
