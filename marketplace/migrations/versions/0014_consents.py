"""Consents: when a token is renewed, when a person has to agree again, and whose account it is."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    op.add_column("connection", sa.Column("token_renew_at", columns.Moment(), nullable=True))
    op.add_column("connection", sa.Column("grant_expires_at", columns.Moment(), nullable=True))
    op.add_column("connection", sa.Column("consent_sealed", TEXT(), nullable=True))
    op.add_column("connection", sa.Column("account", columns.Document(), nullable=True))


def downgrade() -> None:
    op.drop_column("connection", "account")
    op.drop_column("connection", "consent_sealed")
    op.drop_column("connection", "grant_expires_at")
    op.drop_column("connection", "token_renew_at")
