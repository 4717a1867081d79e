"""The operator's desk: suspended organizations, who is alive, and indexes to count along."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString

COLUMNS = {
    "organization": (
        lambda: sa.Column("state", TEXT(length=12), nullable=False, server_default="active"),
        lambda: sa.Column("suspended_at", columns.Moment(), nullable=True),
        lambda: sa.Column("suspended_because", TEXT(length=500), nullable=True),
    ),
    "usage": (lambda: sa.Column("routed", sa.Integer(), nullable=False, server_default="0"),),
    "worker": (
        lambda: sa.Column("kind", TEXT(), nullable=False, server_default=""),
        lambda: sa.Column("version", TEXT(), nullable=False, server_default=""),
        lambda: sa.Column("heard_at", columns.Moment(), nullable=True),
    ),
}
INDEXES = {
    "ix_organization_held": ("organization", ["state"], "state <> 'active'"),
    "ix_event_quarantined": ("event", ["organization_id", "id"], "state = 'quarantined'"),
    "ix_delivery_parked": ("delivery", ["organization_id", "id"], "state = 'parked'"),
    "ix_audit_entry_action": ("audit_entry", ["action", "id"], None),
}


def upgrade() -> None:
    for table, made in COLUMNS.items():
        for column in made:
            op.add_column(table, column())
    for name, (table, names, where) in INDEXES.items():
        condition = sa.text(where) if where else None
        op.create_index(name, table, names, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    for name, (table, _, _) in INDEXES.items():
        op.drop_index(name, table)
    for table, made in COLUMNS.items():
        for column in made:
            op.drop_column(table, column().name)
