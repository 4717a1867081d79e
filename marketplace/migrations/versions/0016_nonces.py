"""Nonces: words that a sender may use once."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def upgrade() -> None:
    text = sqlmodel.sql.sqltypes.AutoString
    op.create_table(
        "nonce",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", text(length=40), nullable=False),
        sa.Column("id", text(length=40), nullable=False),
        sa.Column("seen", text(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_index("ix_nonce_age", "nonce", ["organization_id", "created_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE nonce ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE nonce FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON nonce USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    op.drop_table("nonce")
