"""How long events are kept: rules, the archive's chunks, exports and erasures."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TENANT_TABLES = ("archive_chunk", "data_export", "erasure", "keeping", "retention_rule")

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)
OPEN = "state IN ('queued', 'running')"


def _owned() -> tuple[sa.Column, ...]:
    return (
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
    )


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sqlmodel.sql.sqltypes.AutoString(), nullable=nullable)


def _numbers(*names: str) -> tuple[sa.Column, ...]:
    return tuple(sa.Column(name, sa.Integer(), nullable=False) for name in names)


def _moment(name: str, *, nullable: bool = True) -> sa.Column:
    return sa.Column(name, columns.Moment(), nullable=nullable)


def _partial(name: str, table: str, *names: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, names, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    _partial("ix_event_archived", "event", "organization_id", "id", where="state = 'archived'")
    op.create_table(
        "retention_rule",
        *_owned(),
        _text("event_types"),
        *_numbers("live_days", "rejected_days", "archive_days"),
        sa.Column("detail_days", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "event_types", name="uq_retention_rule_types"),
    )
    op.create_table(
        "keeping",
        *_owned(),
        _moment("next_at", nullable=False),
        _text("lease_owner", nullable=True),
        *_numbers("lease_epoch"),
        _moment("lease_until"),
        _text("passed_id"),
        _text("detail_id"),
        *_numbers("moved"),
        _moment("finished_at"),
        _text("trouble", nullable=True),
        _moment("trouble_since"),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_index("ix_keeping_next", "keeping", ["next_at"])
    _partial("ix_keeping_trouble", "keeping", "trouble", where="trouble IS NOT NULL")
    op.create_table(
        "archive_chunk",
        *_owned(),
        _text("day"),
        _text("event_types"),
        _moment("from_at", nullable=False),
        _moment("until_at", nullable=False),
        _text("from_id"),
        _text("until_id"),
        *_numbers("event_count", "delivery_count", "run_count"),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("types", columns.Document(), nullable=False),
        _text("digest"),
        _text("key"),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_index("ix_archive_chunk_day", "archive_chunk", ["organization_id", "day", "id"])
    _create_wishes()
    if op.get_bind().dialect.name == "postgresql":
        for table in TENANT_TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({POLICY}) WITH CHECK ({POLICY})")


def _create_wishes() -> None:
    op.create_table(
        "data_export",
        *_owned(),
        _moment("from_at", nullable=False),
        _moment("until_at", nullable=False),
        _text("event_types"),
        _text("requested_by", nullable=True),
        _text("requested_by_name"),
        _text("state"),
        _text("stage"),
        *_numbers("event_count", "delivery_count", "run_count"),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        _text("digest", nullable=True),
        _text("key", nullable=True),
        _text("problem", nullable=True),
        _moment("finished_at"),
        _moment("expires_at"),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_table(
        "erasure",
        *_owned(),
        _text("kind"),
        _text("value_sealed", nullable=True),
        _text("value_mark"),
        _text("requested_by", nullable=True),
        _text("requested_by_name"),
        _text("state"),
        sa.Column("moving", columns.Document(), nullable=False),
        *_numbers(
            "live_events",
            "archived_events",
            "deliveries",
            "runs",
            "chunks_rewritten",
            "exports_deleted",
        ),
        _text("problem", nullable=True),
        _moment("finished_at"),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    for table in ("data_export", "erasure"):
        _partial(f"ix_{table}_open", table, "organization_id", "id", where=OPEN)


def downgrade() -> None:
    """Go back; what is in the archive's files stays there, and empty rows of events go."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT set_config('app.organization_id', '*', true)")
    op.execute("DELETE FROM event WHERE state = 'archived'")
    for table in TENANT_TABLES:
        op.drop_table(table)
    op.drop_index("ix_event_archived", "event")
