"""Connections that stay alive: budgets, health by the hour, links to reconnect, ordered webhooks."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)
_TEXT = sqlmodel.sql.sqltypes.AutoString
_NEW = {
    "paused_at": columns.Moment,
    "credentials_end_at": columns.Moment,
    "ends_at": columns.Moment,
    "ends_what": _TEXT,
    "warned_days": sa.Integer,
    "refresh_at": columns.Moment,
    "refresh_failed_at": columns.Moment,
}
_TABLES = ("allowance", "connection_hour", "reconnect_link", "vendor_hook")


def _table(name: str, **stated: object) -> None:
    """Create a tenant's table; a type in a tuple may be null."""
    op.create_table(
        name,
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", _TEXT(length=40), nullable=False),
        sa.Column("id", _TEXT(length=40), nullable=False),
        *[
            sa.Column(column, kind[0]() if isinstance(kind, tuple) else kind(),  # type: ignore
                      nullable=isinstance(kind, tuple))
            for column, kind in stated.items()
        ],
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )  # fmt: skip


def upgrade() -> None:
    moment, document, number = columns.Moment, columns.Document, sa.Integer
    for name, kind in _NEW.items():
        op.add_column("connection", sa.Column(name, kind(), nullable=True))
    op.add_column(
        "connection", sa.Column("refresh_failures", number(), nullable=False, server_default="0")
    )
    _partial("ix_connection_refresh", "connection", ["refresh_at"], "refresh_at IS NOT NULL")
    _partial("ix_connection_ends", "connection", ["organization_id", "ends_at"],
             "ends_at IS NOT NULL")  # fmt: skip
    _table(
        "allowance",
        connector_key=_TEXT, budget_id=_TEXT, scope=_TEXT, full_at=moment,
        blocked_until=(moment,), queues=document, seats=document,
    )  # fmt: skip
    op.create_index("ix_allowance_connector", "allowance", ["organization_id", "connector_key"])
    _table(
        "connection_hour",
        connection_id=_TEXT, hour=moment, ok=number, failed=number, refused=number,
        waited=number, causes=document, elapsed_ms=number, slowest_ms=number,
        last_ok_at=(moment,), last_failed_at=(moment,), last_problem=(document,),
    )  # fmt: skip
    op.create_index(
        "ix_connection_hour", "connection_hour", ["organization_id", "connection_id", "hour"]
    )
    _table(
        "reconnect_link",
        connection_id=_TEXT, secret_digest=_TEXT, note=_TEXT, made_by=(_TEXT,),
        made_by_name=_TEXT, expires_at=moment, revoked_at=(moment,), opened_at=(moment,),
        used_at=(moment,), held_sealed=(_TEXT,), held_account=(document,), decided_at=(moment,),
    )  # fmt: skip
    op.create_index(
        "ix_reconnect_link_connection", "reconnect_link", ["organization_id", "connection_id"]
    )
    _table(
        "vendor_hook",
        connection_id=_TEXT, connector_key=_TEXT, trigger_key=_TEXT, input=document, state=_TEXT,
        remote_id=(_TEXT,), expires_at=(moment,), next_at=(moment,), looked_at=(moment,),
        failure_count=number, problem=(document,), ledger=document, lease_owner=(_TEXT,),
        lease_until=(moment,),
    )  # fmt: skip
    _partial("ix_vendor_hook_next", "vendor_hook", ["next_at"], "next_at IS NOT NULL")
    op.create_index(
        "ix_vendor_hook_connection", "vendor_hook", ["organization_id", "connection_id"]
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({POLICY}) WITH CHECK ({POLICY})")


def _partial(name: str, table: str, names: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, names, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
    op.drop_index("ix_connection_ends", "connection")
    op.drop_index("ix_connection_refresh", "connection")
    for name in (*_NEW, "refresh_failures"):
        op.drop_column("connection", name)
