"""Flows call flows, await events, keep values, go error paths, and run in test and live."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)
TENANT_TABLES = (
    "awaited_type",
    "event_wait",
    "event_arrival",
    "stored_value",
    "store_use",
    "flow_in_test",
)
text = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    _runs()
    _waits()
    _store()
    _stages()
    if op.get_bind().dialect.name == "postgresql":
        for table in TENANT_TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({POLICY}) WITH CHECK ({POLICY})")


def _owned(name: str, *more: sa.Column) -> None:
    op.create_table(
        name,
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(length=40), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        *more,
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )


def _partial(name: str, table: str, names: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, names, sqlite_where=condition, postgresql_where=condition)


def _runs() -> None:
    op.add_column("run", sa.Column("parent_run_id", text(), nullable=True))
    op.add_column("run", sa.Column("parent_position", sa.Integer(), nullable=True))
    op.add_column("run", sa.Column("depth", sa.Integer(), nullable=True))
    op.add_column("run", sa.Column("called_with", columns.Document(), nullable=True))
    op.add_column("run", sa.Column("result", columns.Document(), nullable=True))
    op.add_column("run", sa.Column("environment", text(), nullable=True))
    op.add_column("run", sa.Column("replayed_from", text(), nullable=True))
    op.add_column("step", sa.Column("taken_from", text(), nullable=True))
    called = ["organization_id", "parent_run_id", "id"]
    _partial("ix_run_called", "run", called, "parent_run_id IS NOT NULL")
    resting = "state = 'waiting' AND cause IN ('delay', 'approval', 'wait', 'call')"
    _partial("ix_run_resting", "run", ["organization_id"], resting)


def _waits() -> None:
    _owned(
        "awaited_type",
        sa.Column("flow_id", text(), nullable=False),
        sa.Column("event_type", text(), nullable=False),
        sa.Column("path", text(), nullable=False),
        sa.UniqueConstraint(
            "organization_id", "event_type", "path", "flow_id", name="uq_awaited_type"
        ),
    )
    _owned(
        "event_wait",
        sa.Column("flow_id", text(), nullable=False),
        sa.Column("run_id", text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("event_type", text(), nullable=False),
        sa.Column("match_hash", text(), nullable=False),
        sa.Column("until", columns.Moment(), nullable=False),
    )
    op.create_index(
        "ix_event_wait_match", "event_wait", ["organization_id", "match_hash", "id"]
    )
    op.create_index("ix_event_wait_run", "event_wait", ["organization_id", "run_id"])
    _owned(
        "event_arrival",
        sa.Column("event_id", text(), nullable=False),
        sa.Column("event_type", text(), nullable=False),
        sa.Column("match_hash", text(), nullable=False),
        sa.Column("state", text(), nullable=False),
    )
    matched = ["organization_id", "match_hash", "event_id"]
    op.create_index("ix_event_arrival_match", "event_arrival", matched)
    op.create_index("ix_event_arrival_event", "event_arrival", ["organization_id", "event_id"])
    _partial("ix_event_arrival_new", "event_arrival", ["created_at"], "state = 'new'")


def _store() -> None:
    _owned(
        "stored_value",
        sa.Column("collection", text(), nullable=False),
        sa.Column("key", text(), nullable=False),
        sa.Column("value", columns.Document(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("expires_at", columns.Moment(), nullable=True),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.Column("updated_by", text(), nullable=True),
        sa.UniqueConstraint("organization_id", "collection", "key", name="uq_stored_value_key"),
    )
    _partial("ix_stored_value_expiry", "stored_value", ["expires_at"], "expires_at IS NOT NULL")
    _owned(
        "store_use",
        sa.Column("value_count", sa.Integer(), nullable=False),
        sa.Column("byte_count", sa.Integer(), nullable=False),
    )


def _stages() -> None:
    _owned(
        "flow_in_test",
        sa.Column("published_version", sa.Integer(), nullable=False),
        sa.Column("state", text(), nullable=False),
        sa.Column("listens_to", text(), nullable=True),
        sa.Column("listens_version", sa.Integer(), nullable=True),
        sa.Column("listens_source_id", text(), nullable=True),
        sa.Column("listens_connection_id", text(), nullable=True),
        sa.Column("lane", text(), nullable=True),
    )
    listening = ["organization_id", "listens_to"]
    _partial("ix_flow_in_test_listening", "flow_in_test", listening, "state = 'active'")
    for table in ("connection", "flow_version", "source"):
        made = sa.Column("environment", text(), nullable=False, server_default="live")
        op.add_column(table, made)
    op.add_column("flow_version", sa.Column("written", columns.Document(), nullable=True))
    _partial("ix_source_test", "source", ["organization_id"], "environment = 'test'")


def downgrade() -> None:
    op.drop_index("ix_source_test", "source")
    op.drop_column("flow_version", "written")
    for table in ("connection", "flow_version", "source"):
        op.drop_column(table, "environment")
    for table in TENANT_TABLES:
        op.drop_table(table)
    op.drop_index("ix_run_called", "run")
    op.drop_index("ix_run_resting", "run")
    for name in (
        "parent_run_id",
        "parent_position",
        "depth",
        "called_with",
        "result",
        "environment",
        "replayed_from",
    ):
        op.drop_column("run", name)
    op.drop_column("step", "taken_from")
