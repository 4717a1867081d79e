"""Order keys: runs of a flow that go one after another."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString
LANE = ["organization_id", "flow_id", "order_key"]


def _partial(name: str, names: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "run", names, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    op.add_column("flow", sa.Column("order_key", TEXT(), nullable=True))
    op.add_column("run", sa.Column("order_key", TEXT(), nullable=True))
    _partial(
        "ix_run_order",
        [*LANE, "event_id", "id"],
        "order_key IS NOT NULL AND state IN ('due', 'waiting', 'leased', 'parked')",
    )
    _partial(
        "ix_run_order_busy",
        LANE,
        "order_key IS NOT NULL AND (state = 'leased' OR next_at IS NOT NULL)",
    )


def downgrade() -> None:
    op.drop_index("ix_run_order_busy", "run")
    op.drop_index("ix_run_order", "run")
    op.drop_column("run", "order_key")
    op.drop_column("flow", "order_key")
