"""Rows of an event's life point at each other without a check by the store (decision 0008)."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# as PostgreSQL names them; SQLite has no names for them, so they are given the same
NAMES = {"fk": "%(table_name)s_%(column_0_N_name)s_fkey"}
# a table before those it points at: SQLite makes each anew, and drops the old one
CHECKS = {
    "step": (("organization_id", "run_id"),),
    "run": (("organization_id", "event_id"), ("organization_id", "flow_id", "flow_version")),
    "attempt": (("organization_id", "delivery_id"),),
    "delivery": (("organization_id", "event_id"), ("organization_id", "endpoint_id")),
}
# what the columns of a check point at
POINTED_AT = {
    ("organization_id", "run_id"): ("run", ("organization_id", "id")),
    ("organization_id", "event_id"): ("event", ("organization_id", "id")),
    ("organization_id", "flow_id", "flow_version"): (
        "flow_version",
        ("organization_id", "flow_id", "number"),
    ),
    ("organization_id", "delivery_id"): ("delivery", ("organization_id", "id")),
    ("organization_id", "endpoint_id"): ("endpoint", ("organization_id", "id")),
}


def upgrade() -> None:
    op.drop_index("ix_run_event", "run")
    for table, checks in CHECKS.items():
        with op.batch_alter_table(table, naming_convention=NAMES) as batch:
            for columns in checks:
                batch.drop_constraint(f"{table}_{'_'.join(columns)}_fkey", type_="foreignkey")
            if table == "run":
                # in this order it also finds the runs of an event
                batch.drop_constraint("uq_run_once", type_="unique")
                batch.create_unique_constraint(
                    "uq_run_once", ["organization_id", "event_id", "flow_id", "replay_nonce"]
                )


def downgrade() -> None:
    """Let the store check again, at every row, that what is pointed at is there."""
    for table, checks in reversed(CHECKS.items()):
        with op.batch_alter_table(table, naming_convention=NAMES) as batch:
            if table == "run":
                batch.drop_constraint("uq_run_once", type_="unique")
                batch.create_unique_constraint(
                    "uq_run_once", ["organization_id", "flow_id", "event_id", "replay_nonce"]
                )
            for columns in checks:
                to, names = POINTED_AT[columns]
                name = f"{table}_{'_'.join(columns)}_fkey"
                batch.create_foreign_key(name, to, list(columns), list(names))
    op.create_index("ix_run_event", "run", ["organization_id", "event_id"])
