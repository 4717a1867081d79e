"""Apps that send nothing by themselves are asked: how often, and where the next look begins."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reconciliation", sa.Column("every_seconds", sa.Integer(), nullable=True))
    op.add_column(
        "reconciliation",
        sa.Column("token", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
    )


def downgrade() -> None:
    """Go back; the older code finds no way to ask these apps, and forgets the looks by itself."""
    op.drop_column("reconciliation", "token")
    op.drop_column("reconciliation", "every_seconds")
