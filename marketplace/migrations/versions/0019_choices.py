"""Choices that apps offer, events that are completed, and where apps depart from their schemas."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)
TABLES = ("choice_list", "completion", "drift", "drift_report")


def text(length: int | None = None) -> sa.types.TypeEngine:
    return sqlmodel.sql.sqltypes.AutoString(length=length)


def owned() -> list[sa.Column]:
    return [
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(40), nullable=False),
        sa.Column("id", text(40), nullable=False),
    ]


def partial(name: str, table: str, names: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, names, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    _choices()
    _completions()
    _drifts()
    if op.get_bind().dialect.name == "postgresql":
        for table in TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({POLICY}) WITH CHECK ({POLICY})")


def _choices() -> None:
    op.create_table(
        "choice_list",
        *owned(),
        sa.Column("connection_id", text(), nullable=False),
        sa.Column("key", text(), nullable=False),
        sa.Column("digest", text(), nullable=False),
        sa.Column("options", columns.Document(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.Column("fetched_at", columns.Moment(), nullable=False),
        sa.Column("expires_at", columns.Moment(), nullable=False),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint(
            "organization_id", "connection_id", "key", "digest", name="uq_choice_list_of"
        ),
    )


def _completions() -> None:
    op.create_table(
        "completion",
        *owned(),
        sa.Column("event_id", text(), nullable=False),
        sa.Column("source_id", text(), nullable=False),
        sa.Column("connection_id", text(), nullable=True),
        sa.Column("connector_key", text(), nullable=False),
        sa.Column("trigger_key", text(), nullable=False),
        sa.Column("lane", text(), nullable=False),
        sa.Column("state", text(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("crash_count", sa.Integer(), nullable=False),
        sa.Column("lease_owner", text(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.Column("made", columns.Document(), nullable=False),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "event_id", name="uq_completion_event"),
    )
    waiting = "state IN ('due', 'waiting')"
    partial("ix_completion_next", "completion", ["next_at"], waiting)
    partial("ix_completion_leased", "completion", ["lease_until"], "state = 'leased'")
    lane = ["organization_id", "lane", "event_id"]
    partial("ix_completion_lane", "completion", lane, "state IN ('due', 'waiting', 'leased')")
    op.create_index("ix_completion_state", "completion", ["organization_id", "state", "id"])
    op.create_index("ix_completion_source", "completion", ["organization_id", "source_id", "id"])


def _drifts() -> None:
    op.create_table(
        "drift",
        *owned(),
        sa.Column("connection_id", text(), nullable=False),
        sa.Column("part", text(), nullable=False),
        sa.Column("part_key", text(), nullable=False),
        sa.Column("kind", text(), nullable=False),
        sa.Column("path", text(), nullable=False),
        sa.Column("wanted", text(), nullable=False),
        sa.Column("example", text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", columns.Moment(), nullable=False),
        sa.Column("last_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint(
            "organization_id",
            "connection_id",
            "part",
            "part_key",
            "kind",
            "path",
            name="uq_drift_place",
        ),
    )
    op.create_index("ix_drift_connection", "drift", ["organization_id", "connection_id", "last_at"])
    op.create_table(
        "drift_report",
        *owned(),
        sa.Column("told_at", columns.Moment(), nullable=False),
        sa.Column("told_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
