"""Endpoints that subscribers look after through a portal, and large data sent by reference."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TENANT_TABLES = ("portal_link", "portal_visit")
TEXT = sqlmodel.sql.sqltypes.AutoString

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def upgrade() -> None:
    # programs that take large data whole must not get addresses because the hub was upgraded
    large = sa.Column("large_payloads", TEXT(), nullable=False, server_default="inline")
    op.add_column("endpoint", large)
    op.add_column("endpoint", sa.Column("subscriber_id", TEXT(), nullable=True))
    op.add_column("delivery", sa.Column("fetch_count", sa.Integer(), nullable=True))
    op.add_column("delivery", sa.Column("fetched_at", columns.Moment(), nullable=True))
    op.create_table(
        "portal_link",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", TEXT(length=40), nullable=False),
        sa.Column("id", TEXT(length=40), nullable=False),
        sa.Column("subscriber_id", TEXT(), nullable=False),
        sa.Column("subscriber_name", TEXT(), nullable=False),
        sa.Column("event_types", columns.Document(), nullable=False),
        sa.Column("origins", columns.Document(), nullable=False),
        sa.Column("max_endpoints", sa.Integer(), nullable=False),
        sa.Column("colour", TEXT(), nullable=True),
        sa.Column("expires_at", columns.Moment(), nullable=False),
        sa.Column("revoked_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_index(
        "ix_portal_link_subscriber", "portal_link", ["organization_id", "subscriber_id"]
    )
    op.create_table(
        "portal_visit",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", TEXT(length=40), nullable=False),
        sa.Column("id", TEXT(length=40), nullable=False),
        sa.Column("link_id", TEXT(), nullable=False),
        sa.Column("secret_digest", TEXT(), nullable=False),
        sa.Column("expires_at", columns.Moment(), nullable=False),
        sa.Column("opened_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "link_id"], ["portal_link.organization_id", "portal_link.id"]
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "secret_digest", name="uq_portal_visit_secret"),
    )
    op.create_index("ix_portal_visit_expires", "portal_visit", ["expires_at"])
    if op.get_bind().dialect.name == "postgresql":
        for table in TENANT_TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    op.drop_table("portal_visit")
    op.drop_table("portal_link")
    for table, name in (
        ("delivery", "fetched_at"),
        ("delivery", "fetch_count"),
        ("endpoint", "subscriber_id"),
        ("endpoint", "large_payloads"),
    ):
        op.drop_column(table, name)
