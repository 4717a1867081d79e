"""Endpoints with key pairs, several old secrets, own headers, certificates and conditions."""

from datetime import UTC, datetime

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    for column in (
        sa.Column("signature", TEXT(), nullable=False, server_default="hmac"),
        sa.Column("public_key", TEXT(), nullable=True),
        sa.Column("old_secrets", columns.Document(), nullable=False, server_default="[]"),
        sa.Column("headers", columns.Document(), nullable=False, server_default="[]"),
        sa.Column("client_certificate", TEXT(), nullable=True),
        sa.Column("client_key_sealed", TEXT(), nullable=True),
        sa.Column("certificate_until", columns.Moment(), nullable=True),
        sa.Column("condition", TEXT(), nullable=True),
    ):
        op.add_column("endpoint", column)
    _move_previous_secrets()
    op.drop_column("endpoint", "previous_secret_sealed")
    op.drop_column("endpoint", "previous_secret_until")


def _move_previous_secrets() -> None:
    """Keep what signs besides the present secret: nobody may be cut off by an upgrade."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        # the wall between tenants stands for the owner of the tables too
        connection.execute(sa.text("SELECT set_config('app.organization_id', '*', true)"))
    endpoint = sa.table(
        "endpoint",
        sa.column("organization_id"),
        sa.column("id"),
        sa.column("previous_secret_sealed"),
        sa.column("previous_secret_until", columns.Moment()),
        sa.column("old_secrets", columns.Document()),
    )
    rows = connection.execute(
        sa.select(endpoint).where(
            endpoint.c.previous_secret_sealed.is_not(None),
            endpoint.c.previous_secret_until.is_not(None),
        )
    )
    for row in rows.mappings().all():
        until = row["previous_secret_until"].astimezone(UTC).isoformat()
        old = [{"sealed": row["previous_secret_sealed"], "until": until}]
        connection.execute(
            endpoint.update()
            .where(
                endpoint.c.organization_id == row["organization_id"], endpoint.c.id == row["id"]
            )
            .values(old_secrets=old)
        )


def downgrade() -> None:
    """Go back to shared secrets alone.

    An endpoint that needs more than the older code knows (a key pair, a certificate, headers, a
    condition) is switched off, so that nothing goes out wrongly or to whom it was not meant.
    """
    connection = op.get_bind()
    op.add_column("endpoint", sa.Column("previous_secret_sealed", TEXT(), nullable=True))
    op.add_column("endpoint", sa.Column("previous_secret_until", columns.Moment(), nullable=True))
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT set_config('app.organization_id', '*', true)"))
    connection.execute(
        sa.text(
            "UPDATE endpoint SET state = 'disabled', disabled_reason = 'by_hand'"
            " WHERE signature <> 'hmac' OR condition IS NOT NULL OR headers <> '[]'"
            " OR client_certificate IS NOT NULL"
        )
    )
    _move_old_secrets(connection)
    for name in (
        "condition",
        "certificate_until",
        "client_key_sealed",
        "client_certificate",
        "headers",
        "old_secrets",
        "public_key",
        "signature",
    ):
        op.drop_column("endpoint", name)


def _move_old_secrets(connection: sa.Connection) -> None:
    """Keep the one old secret there is room for: that which signs longest."""
    endpoint = sa.table(
        "endpoint",
        sa.column("organization_id"),
        sa.column("id"),
        sa.column("previous_secret_sealed"),
        sa.column("previous_secret_until", columns.Moment()),
        sa.column("old_secrets", columns.Document()),
    )
    rows = connection.execute(sa.select(endpoint).where(endpoint.c.old_secrets != []))
    for row in rows.mappings().all():
        latest = max(row["old_secrets"], key=lambda one: one["until"])
        connection.execute(
            endpoint.update()
            .where(
                endpoint.c.organization_id == row["organization_id"], endpoint.c.id == row["id"]
            )
            .values(
                previous_secret_sealed=latest["sealed"],
                previous_secret_until=datetime.fromisoformat(latest["until"]),
            )
        )
