"""Troubles by their cause and their repair.
"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)
text = sqlmodel.sql.sqltypes.AutoString


def _partial(name, table, names, condition):
    where = sa.text(condition)
    op.create_index(name, table, names, sqlite_where=where, postgresql_where=where)


def _owned(name, *parts):
    op.create_table(
        name,
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(length=40), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        *parts,
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {name} USING ({POLICY}) WITH CHECK ({POLICY})")


def upgrade() -> None:
    _incidents()
    _run_columns()
    _proofs()
    _editions()
    op.add_column(
        "approval", sa.Column("by_link", text(), nullable=False, server_default="sign_in")
    )


def _incidents() -> None:
    _owned(
        "incident",
        sa.Column("kind", text(), nullable=False),
        sa.Column("fingerprint", text(), nullable=False),
        sa.Column("cause", text(), nullable=False),
        sa.Column("code", text(), nullable=False),
        sa.Column("connector_key", text(), nullable=True),
        sa.Column("action_key", text(), nullable=True),
        sa.Column("connection_id", text(), nullable=True),
        sa.Column("endpoint_id", text(), nullable=True),
        sa.Column("source_id", text(), nullable=True),
        sa.Column("flow_ids", columns.Document(), nullable=False),
        sa.Column("say", columns.Document(), nullable=True),
        sa.Column("sample_id", text(), nullable=True),
        sa.Column("state", text(), nullable=False),
        sa.Column("opened_at", columns.Moment(), nullable=False),
        sa.Column("opened_count", sa.Integer(), nullable=False),
        sa.Column("last_at", columns.Moment(), nullable=False),
        sa.Column("closed_at", columns.Moment(), nullable=True),
        sa.Column("closed_by", text(), nullable=True),
        sa.Column("stuck_count", sa.Integer(), nullable=False),
        sa.Column("total_count", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("tally", columns.Document(), nullable=False),
        sa.Column("assignee_id", text(), nullable=True),
        sa.Column("assignee_name", text(), nullable=True),
        sa.Column("note", text(), nullable=False),
        sa.Column("tried", columns.Document(), nullable=False),
        sa.UniqueConstraint("organization_id", "fingerprint", name="uq_incident_fingerprint"),
    )
    op.create_index("ix_incident_state", "incident", ["organization_id", "state", "id"])
    _partial("ix_incident_due", "incident", ["organization_id", "next_at"], "state = 'open'")
    _owned(
        "incident_round",
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("looked_at", columns.Moment(), nullable=True),
    )
    _partial("ix_incident_round_next", "incident_round", ["next_at"], "next_at IS NOT NULL")
    _owned(
        "bulk_repair",
        sa.Column("incident_id", text(), nullable=False),
        sa.Column("kind", text(), nullable=False),
        sa.Column("state", text(), nullable=False),
        sa.Column("canary_count", sa.Integer(), nullable=False),
        sa.Column("canary_ids", columns.Document(), nullable=False),
        sa.Column("until", columns.Moment(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("asked_by", text(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
    )
    _partial("ix_bulk_repair_next", "bulk_repair", ["next_at"], "next_at IS NOT NULL")
    op.create_index(
        "ix_bulk_repair_incident", "bulk_repair", ["organization_id", "incident_id", "id"]
    )


def _run_columns() -> None:
    op.add_column("run", sa.Column("incident_id", text(), nullable=True))
    stopped = "state = 'parked' AND incident_id IS"
    _partial("ix_run_unsorted", "run", ["organization_id", "id"], f"{stopped} NULL")
    _partial(
        "ix_run_incident",
        "run",
        ["organization_id", "incident_id", "flow_id", "id"],
        f"{stopped} NOT NULL",
    )
    _partial(
        "ix_run_retrying",
        "run",
        ["organization_id", "lane", "cause"],
        "state = 'waiting' AND attempt_count >= 3 AND cause IN ('down', 'limit')",
    )
    _partial(
        "ix_delivery_trouble",
        "delivery",
        ["organization_id", "endpoint_id", "last_problem", "last_status"],
        "state = 'parked'",
    )


def _proofs() -> None:
    op.create_table(
        "template_proof",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", text(length=120), primary_key=True),
        sa.Column("state", text(), nullable=False),
        sa.Column("proved_at", columns.Moment(), nullable=True),
        sa.Column("hub_version", text(), nullable=False),
        sa.Column("digest", text(), nullable=False),
        sa.Column("trial_count", sa.Integer(), nullable=False),
        sa.Column("elapsed_ms", sa.Integer(), nullable=False),
        sa.Column("problems", columns.Document(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=False),
        sa.Column("lease_owner", text(), nullable=True),
        sa.Column("lease_until", columns.Moment(), nullable=True),
    )
    op.create_index("ix_template_proof_next", "template_proof", ["next_at"])


STATES = (
    "checking", "failed", "checked", "in_review", "rejected", "published", "deprecated",
    "withdrawn", "recalled",
)


def _editions() -> None:
    op.create_table(
        "connector_edition",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", text(length=40), primary_key=True),
        sa.Column("vendor_id", text(length=40), nullable=False),
        sa.Column("vendor_key", text(length=60), nullable=False),
        sa.Column("name", text(length=60), nullable=False),
        sa.Column("version", text(length=40), nullable=False),
        sa.Column("title", columns.Document(), nullable=False),
        sa.Column("summary", columns.Document(), nullable=False),
        sa.Column("slots", columns.Document(), nullable=False),
        sa.Column("archive", sa.LargeBinary(), nullable=False),
        sa.Column("digest", text(length=80), nullable=False),
        sa.Column("state", text(length=20), nullable=False),
        sa.Column("trial", columns.Document(), nullable=False),
        sa.Column("findings", columns.Document(), nullable=False),
        sa.Column("reach", columns.Document(), nullable=False),
        sa.Column("compared_to", text(length=40), nullable=True),
        sa.Column("changes", columns.Document(), nullable=False),
        sa.Column("is_allowed", sa.Boolean(), nullable=False),
        sa.Column("reason", text(), nullable=True),
        sa.Column("submitted_by", text(length=40), nullable=True),
        sa.Column("decided_by", text(length=40), nullable=True),
        sa.Column("decided_at", columns.Moment(), nullable=True),
        sa.Column("published_at", columns.Moment(), nullable=True),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("lease_owner", text(length=40), nullable=True),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("try_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["vendor_id"], ["vendor.id"]),
        sa.CheckConstraint(f"state IN {STATES!r}", name="connector_edition_state_known"),
    )
    spent = sa.text("state NOT IN ('checking', 'failed', 'checked', 'rejected')")
    op.create_index(
        "uq_connector_edition_version",
        "connector_edition",
        ["vendor_id", "name", "version"],
        unique=True,
        sqlite_where=spent,
        postgresql_where=spent,
    )
    op.create_index("ix_connector_edition_vendor", "connector_edition", ["vendor_id", "id"])
    op.create_index("ix_connector_edition_state", "connector_edition", ["state", "id"])
    _partial("ix_connector_edition_next", "connector_edition", ["next_at"], "next_at IS NOT NULL")


def downgrade() -> None:
    op.drop_column("approval", "by_link")
    op.drop_table("connector_edition")
    op.drop_table("template_proof")
    op.drop_index("ix_delivery_trouble", "delivery")
    for name in ("ix_run_retrying", "ix_run_incident", "ix_run_unsorted"):
        op.drop_index(name, "run")
    op.drop_column("run", "incident_id")
    for table in ("bulk_repair", "incident_round", "incident"):
        op.drop_table(table)
