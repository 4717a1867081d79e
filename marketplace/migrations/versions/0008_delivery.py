"""Circuits, requests in flight, order and bulk replays."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import clock, columns

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def _columns() -> tuple[sa.Column, ...]:
    return (
        sa.Column("disabled_at", columns.Moment(), nullable=True),
        sa.Column("max_in_flight", sa.Integer(), nullable=True),
        sa.Column("ordering", TEXT(), nullable=False, server_default="none"),
        sa.Column("failure_streak", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("streak_since", columns.Moment(), nullable=True),
        sa.Column("circuit", TEXT(), nullable=False, server_default="closed"),
        sa.Column("circuit_cause", TEXT(), nullable=True),
        sa.Column("circuit_since", columns.Moment(), nullable=True),
        sa.Column("circuit_at", columns.Moment(), nullable=True),
        sa.Column("probe_id", TEXT(), nullable=True),
        sa.Column("probe_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("sends_missed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def _partial(name: str, table: str, names: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, names, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    for column in _columns():
        op.add_column("endpoint", column)
    op.add_column("delivery", sa.Column("lane", TEXT(), nullable=True))
    op.add_column("delivery", sa.Column("bulk_replay_id", TEXT(), nullable=True))
    _partial(
        "ix_delivery_bulk",
        "delivery",
        ["organization_id", "bulk_replay_id", "state"],
        "bulk_replay_id IS NOT NULL",
    )
    _make_bulk_replays()
    _partial(
        "ix_delivery_lane",
        "delivery",
        ["organization_id", "endpoint_id", "lane", "event_id", "id"],
        "lane IS NOT NULL AND state IN ('due', 'waiting', 'leased', 'parked')",
    )
    _partial(
        "ix_delivery_lane_due",
        "delivery",
        ["organization_id", "endpoint_id", "next_at"],
        "lane IS NOT NULL AND next_at IS NOT NULL AND state IN ('due', 'waiting')",
    )
    _partial("ix_endpoint_circuit", "endpoint", ["circuit_at"], "circuit_at IS NOT NULL")
    _partial(
        "ix_delivery_held",
        "delivery",
        ["organization_id", "endpoint_id", "event_id"],
        "state IN ('waiting', 'parked')",
    )


def _make_bulk_replays() -> None:
    op.create_table(
        "bulk_replay",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", TEXT(length=40), nullable=False),
        sa.Column("id", TEXT(length=40), nullable=False),
        sa.Column("endpoint_id", TEXT(), nullable=False),
        sa.Column("event_types", columns.Document(), nullable=False),
        sa.Column("since", columns.Moment(), nullable=False),
        sa.Column("until", columns.Moment(), nullable=False),
        sa.Column("only_failed", sa.Boolean(), nullable=False),
        sa.Column("state", TEXT(), nullable=False),
        sa.Column("problem", TEXT(), nullable=True),
        sa.Column("after", TEXT(), nullable=False),
        sa.Column("is_fed", sa.Boolean(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("passed_over", sa.Integer(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "endpoint_id"], ["endpoint.organization_id", "endpoint.id"]
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    _partial("ix_bulk_replay_next", "bulk_replay", ["next_at"], "next_at IS NOT NULL")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE bulk_replay ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE bulk_replay FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON bulk_replay USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    """Go back; what a circuit or a lane held is given a time, for nobody would let it go."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT set_config('app.organization_id', '*', true)"))
    held = sa.text(
        "UPDATE delivery SET next_at = :now WHERE state = 'waiting' AND next_at IS NULL"
        " AND EXISTS (SELECT 1 FROM endpoint WHERE endpoint.state = 'active'"
        " AND endpoint.organization_id = delivery.organization_id"
        " AND endpoint.id = delivery.endpoint_id)"
    )
    now = sa.bindparam("now", clock.now(), type_=columns.Moment())
    connection.execute(held.bindparams(now))
    op.drop_table("bulk_replay")
    op.drop_index("ix_delivery_bulk", "delivery")
    op.drop_column("delivery", "bulk_replay_id")
    op.drop_index("ix_delivery_lane_due", "delivery")
    op.drop_index("ix_delivery_lane", "delivery")
    op.drop_column("delivery", "lane")
    op.drop_index("ix_delivery_held", "delivery")
    op.drop_index("ix_endpoint_circuit", "endpoint")
    for column in reversed(_columns()):
        op.drop_column("endpoint", column.name)
