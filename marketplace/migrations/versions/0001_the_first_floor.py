"""The first floor: every table, and on PostgreSQL the wall between tenants."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

from kernel import columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TENANT_TABLES = (
    "api_key",
    "attempt",
    "audit_entry",
    "connection",
    "custom_event_type",
    "delivery",
    "endpoint",
    "event",
    "flow",
    "flow_version",
    "installation",
    "invitation",
    "member",
    "rollout",
    "rollout_step",
    "run",
    "source",
    "step",
)

# in the order they are made: one that is pointed at before those that point at it
TABLES = (
    "audit_entry",
    "bundle",
    "connection",
    "custom_event_type",
    "endpoint",
    "flow",
    "invitation",
    "login_throttle",
    "organization",
    "rollout",
    "source",
    "user",
    "api_key",
    "event",
    "flow_version",
    "installation",
    "login_session",
    "member",
    "rollout_step",
    "vendor",
    "app",
    "delivery",
    "run",
    "attempt",
    "release",
    "step",
    "listing",
    "worker",
)

# '*' is set by system code alone; an unset or empty tenant sees nothing.
POLICY = (
    "nullif(current_setting('app.organization_id', true), '') = '*' OR "
    "organization_id = nullif(current_setting('app.organization_id', true), '')"
)


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("actor_kind", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("actor_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("actor_name", sqlmodel.sql.sqltypes.AutoString(length=120), nullable=False),
        sa.Column("action", sqlmodel.sql.sqltypes.AutoString(length=60), nullable=False),
        sa.Column("object_id", sqlmodel.sql.sqltypes.AutoString(length=120), nullable=True),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("ip", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True),
        sa.Column("detail", columns.Document(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_table(
        "bundle",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("key", sqlmodel.sql.sqltypes.AutoString(length=60), nullable=False),
        sa.Column("name", columns.Document(), nullable=False),
        sa.Column("story", columns.Document(), nullable=False),
        sa.Column("items", columns.Document(), nullable=False),
        sa.Column("plan", columns.Document(), nullable=False),
        sa.Column("flow_template", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("is_base", sa.Boolean(), nullable=False),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("digest", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_table(
        "connection",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("connector_key", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("auth", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("settings", columns.Document(), nullable=False),
        sa.Column("public_fields", columns.Document(), nullable=False),
        sa.Column("fields_sealed", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("token_sealed", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("token_expires_at", columns.Moment(), nullable=True),
        sa.Column("token_lease_owner", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("token_lease_until", columns.Moment(), nullable=True),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.Column("checked_at", columns.Moment(), nullable=True),
        sa.Column("installation_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    with op.batch_alter_table("connection", schema=None) as batch_op:
        batch_op.create_index(
            "ix_connection_connector", ["organization_id", "connector_key"], unique=False
        )
        batch_op.create_index(
            "ix_connection_installation", ["organization_id", "installation_id"], unique=False
        )

    op.create_table(
        "custom_event_type",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(length=120), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("title", columns.Document(), nullable=False),
        sa.Column("json_schema", columns.Document(), nullable=False),
        sa.Column("sample", columns.Document(), nullable=True),
        sa.Column("natural_key", columns.Document(), nullable=False),
        sa.Column("retired_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "name", "version"),
    )
    op.create_table(
        "endpoint",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("url", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("description", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("event_types", columns.Document(), nullable=False),
        sa.Column("secret_sealed", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("previous_secret_sealed", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("previous_secret_until", columns.Moment(), nullable=True),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("disabled_reason", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("failing_since", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    with op.batch_alter_table("endpoint", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_endpoint_state"), ["state"], unique=False)

    op.create_table(
        "flow",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("published_version", sa.Integer(), nullable=True),
        sa.Column("draft", columns.Document(), nullable=True),
        sa.Column("draft_revision", sa.Integer(), nullable=False),
        sa.Column("listens_to", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("listens_version", sa.Integer(), nullable=True),
        sa.Column("listens_source_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("listens_connection_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("lane", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("template_key", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("installation_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("deleted_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    with op.batch_alter_table("flow", schema=None) as batch_op:
        batch_op.create_index(
            "ix_flow_installation", ["organization_id", "installation_id"], unique=False
        )
        batch_op.create_index(
            "ix_flow_listening",
            ["organization_id", "listens_to"],
            unique=False,
            sqlite_where=sa.text("state = 'active' AND deleted_at IS NULL"),
            postgresql_where=sa.text("state = 'active' AND deleted_at IS NULL"),
        )

    op.create_table(
        "invitation",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("digest", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column("email", sqlmodel.sql.sqltypes.AutoString(length=254), nullable=False),
        sa.Column("role", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("invited_by", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("expires_at", columns.Moment(), nullable=False),
        sa.Column("accepted_at", columns.Moment(), nullable=True),
        sa.Column("revoked_at", columns.Moment(), nullable=True),
        sa.CheckConstraint(
            "role IN ('owner', 'admin', 'purchaser', 'finance', 'member', 'integrator')",
            name="invitation_role_known",
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "digest"),
    )
    op.create_table(
        "login_throttle",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_failed_at", columns.Moment(), nullable=False),
        sa.Column("blocked_until", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("login_throttle", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_login_throttle_last_failed_at"), ["last_failed_at"], unique=False
        )

    op.create_table(
        "organization",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(length=120), nullable=False),
        sa.Column("slug", sqlmodel.sql.sqltypes.AutoString(length=60), nullable=True),
        sa.Column("is_vendor", sa.Boolean(), nullable=False),
        sa.Column("is_operator", sa.Boolean(), nullable=False),
        sa.Column("industry", sqlmodel.sql.sqltypes.AutoString(length=60), nullable=True),
        sa.Column("size", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("slug"),
    )
    op.create_table(
        "rollout",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("direction", sqlmodel.sql.sqltypes.AutoString(length=12), nullable=False),
        sa.Column("bundle_key", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("app_key", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("claim_key", sqlmodel.sql.sqltypes.AutoString(length=100), nullable=True),
        sa.Column("title", columns.Document(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(length=16), nullable=False),
        sa.Column("lease_owner", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.Column("notes", columns.Document(), nullable=False),
        sa.Column("cancel_requested_at", columns.Moment(), nullable=True),
        sa.Column("requested_by", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column(
            "requested_by_name", sqlmodel.sql.sqltypes.AutoString(length=120), nullable=False
        ),
        sa.Column("started_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.CheckConstraint("direction IN ('install', 'uninstall')", name="rollout_direction_known"),
        sa.CheckConstraint(
            "state IN ('requested', 'validating', 'provisioning', 'connecting', 'subscribing', 'wiring', 'testing', 'active', 'compensating', 'absent')",
            name="rollout_state_known",
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "claim_key", name="uq_rollout_claim"),
    )
    with op.batch_alter_table("rollout", schema=None) as batch_op:
        batch_op.create_index(
            "ix_rollout_bundle", ["organization_id", "bundle_key", "id"], unique=False
        )
        batch_op.create_index(
            "ix_rollout_due",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text("state NOT IN ('active', 'absent')"),
            postgresql_where=sa.text("state NOT IN ('active', 'absent')"),
        )

    op.create_table(
        "source",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("token_digest", sa.String(), nullable=False),
        sa.Column("token_sealed", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("scheme", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("secret_sealed", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("previous_secret_sealed", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("previous_secret_until", columns.Moment(), nullable=True),
        sa.Column("scheme_options", columns.Document(), nullable=False),
        sa.Column("type_rules", columns.Document(), nullable=False),
        sa.Column("unknown_types", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("connection_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("connector_key", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("trigger_key", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("token_digest"),
    )
    with op.batch_alter_table("source", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_source_connection_id"), ["connection_id"], unique=False
        )

    op.create_table(
        "user",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("email", sqlmodel.sql.sqltypes.AutoString(length=254), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=False),
        sa.Column("password_digest", sqlmodel.sql.sqltypes.AutoString(length=255), nullable=True),
        sa.Column("language", sqlmodel.sql.sqltypes.AutoString(length=8), nullable=False),
        sa.Column("password_changed_at", columns.Moment(), nullable=True),
        sa.Column("disabled_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
    )
    op.create_table(
        "api_key",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("digest", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column("hint", sqlmodel.sql.sqltypes.AutoString(length=12), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=False),
        sa.Column("role", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("permissions", columns.Document(), nullable=True),
        sa.Column("created_by", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("last_used_at", columns.Moment(), nullable=True),
        sa.Column("expires_at", columns.Moment(), nullable=True),
        sa.Column("revoked_at", columns.Moment(), nullable=True),
        sa.CheckConstraint(
            "role IN ('owner', 'admin', 'purchaser', 'finance', 'member', 'integrator')",
            name="api_key_role_known",
        ),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["user.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "digest"),
    )
    op.create_table(
        "event",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("source_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("origin", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("type", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("subject", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("dedupe_key", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("occurred_at", columns.Moment(), nullable=False),
        sa.Column("received_at", columns.Moment(), nullable=False),
        sa.Column("content_type", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("headers", columns.Document(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.Column("replay_nonce", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "source_id"],
            ["source.organization_id", "source.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "origin", "dedupe_key", name="uq_event_dedupe"),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(
            "ix_event_waiting",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        )
        batch_op.create_index(
            "ix_event_ready",
            ["organization_id", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'new'"),
            postgresql_where=sa.text("state = 'new'"),
        )
        batch_op.create_index(
            "ix_event_trouble",
            ["organization_id", "id"],
            unique=False,
            sqlite_where=sa.text("state IN ('rejected', 'quarantined')"),
            postgresql_where=sa.text("state IN ('rejected', 'quarantined')"),
        )
        batch_op.create_index("ix_event_type", ["organization_id", "type", "id"], unique=False)

    op.create_table(
        "flow_version",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("flow_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document", columns.Document(), nullable=False),
        sa.Column("published_by", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("published_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "flow_id"],
            ["flow.organization_id", "flow.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "flow_id", "number", name="uq_flow_version_number"),
    )
    op.create_table(
        "installation",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("app_key", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("release_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("kind", sqlmodel.sql.sqltypes.AutoString(length=12), nullable=False),
        sa.Column("live_key", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("title", columns.Document(), nullable=False),
        sa.Column("slot", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(length=16), nullable=False),
        sa.Column("account", sqlmodel.sql.sqltypes.AutoString(length=200), nullable=True),
        sa.Column("open_url", sqlmodel.sql.sqltypes.AutoString(length=2000), nullable=True),
        sa.Column("connection_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("source_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("settings", columns.Document(), nullable=False),
        sa.Column("bundle_key", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("rollout_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("installed_at", columns.Moment(), nullable=True),
        sa.Column("uninstalled_at", columns.Moment(), nullable=True),
        sa.CheckConstraint("kind IN ('hub', 'external')", name="installation_kind_known"),
        sa.CheckConstraint(
            "state IN ('installing', 'active', 'uninstalling', 'absent')",
            name="installation_state_known",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "rollout_id"],
            ["rollout.organization_id", "rollout.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "live_key", name="uq_installation_live"),
    )
    with op.batch_alter_table("installation", schema=None) as batch_op:
        batch_op.create_index(
            "ix_installation_state", ["organization_id", "state", "id"], unique=False
        )

    op.create_table(
        "login_session",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("digest", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column("previous_digest", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True),
        sa.Column("rotated_at", columns.Moment(), nullable=True),
        sa.Column("must_rotate", sa.Boolean(), nullable=False),
        sa.Column("user_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("authenticated_at", columns.Moment(), nullable=False),
        sa.Column("last_seen_at", columns.Moment(), nullable=False),
        sa.Column("expires_at", columns.Moment(), nullable=False),
        sa.Column("ended_at", columns.Moment(), nullable=True),
        sa.Column("user_agent", sqlmodel.sql.sqltypes.AutoString(length=300), nullable=False),
        sa.Column("ip", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    with op.batch_alter_table("login_session", schema=None) as batch_op:
        batch_op.create_index("ix_login_session_previous_digest", ["previous_digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_login_session_user_id"), ["user_id"], unique=False)

    op.create_table(
        "member",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("user_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("role", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("status", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.CheckConstraint(
            "role IN ('owner', 'admin', 'purchaser', 'finance', 'member', 'integrator')",
            name="member_role_known",
        ),
        sa.CheckConstraint("status IN ('active', 'removed')", name="member_status_known"),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "user_id"),
    )
    with op.batch_alter_table("member", schema=None) as batch_op:
        batch_op.create_index("ix_member_user_id", ["user_id"], unique=False)

    op.create_table(
        "rollout_step",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("rollout_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("app_key", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("part_key", sqlmodel.sql.sqltypes.AutoString(length=80), nullable=True),
        sa.Column("installation_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(length=12), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("title", columns.Document(), nullable=False),
        sa.Column("say", columns.Document(), nullable=True),
        sa.Column("state_kept", columns.Document(), nullable=False),
        sa.Column("budget_seconds", sa.Integer(), nullable=False),
        sa.Column("started_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'done', 'failed', 'undoing', 'undone', 'skipped')",
            name="rollout_step_state_known",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "rollout_id"],
            ["rollout.organization_id", "rollout.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "rollout_id", "position", name="uq_rollout_step"),
    )
    op.create_table(
        "vendor",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("key", sqlmodel.sql.sqltypes.AutoString(length=60), nullable=False),
        sa.Column("name", columns.Document(), nullable=False),
        sa.Column("about", columns.Document(), nullable=True),
        sa.Column("homepage", sqlmodel.sql.sqltypes.AutoString(length=2000), nullable=True),
        sa.Column("contact_email", sqlmodel.sql.sqltypes.AutoString(length=254), nullable=True),
        sa.Column("credit_code", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decided_by", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("decided_at", columns.Moment(), nullable=True),
        sa.CheckConstraint(
            "state IN ('applied', 'verified', 'rejected', 'suspended', 'community')",
            name="vendor_state_known",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
        sa.UniqueConstraint("organization_id"),
    )
    op.create_table(
        "app",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("vendor_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("key", sqlmodel.sql.sqltypes.AutoString(length=60), nullable=False),
        sa.Column("name", columns.Document(), nullable=False),
        sa.Column("layer", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("slots", columns.Document(), nullable=False),
        sa.Column("sub_scenarios", columns.Document(), nullable=False),
        sa.Column("origin", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("facts", columns.Document(), nullable=False),
        sa.Column("digest", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["vendor_id"],
            ["vendor.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    with op.batch_alter_table("app", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_app_vendor_id"), ["vendor_id"], unique=False)

    op.create_table(
        "delivery",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("event_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("endpoint_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("replay_nonce", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("ladder_step", sa.Integer(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("lease_owner", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("crash_count", sa.Integer(), nullable=False),
        sa.Column("last_problem", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("delivered_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "endpoint_id"],
            ["endpoint.organization_id", "endpoint.id"],
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "event_id"],
            ["event.organization_id", "event.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint(
            "organization_id", "event_id", "endpoint_id", "replay_nonce", name="uq_delivery_once"
        ),
    )
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.create_index(
            "ix_delivery_due",
            ["organization_id", "next_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('due', 'waiting')"),
            postgresql_where=sa.text("state IN ('due', 'waiting')"),
        )
        batch_op.create_index(
            "ix_delivery_endpoint", ["organization_id", "endpoint_id", "id"], unique=False
        )
        batch_op.create_index(
            "ix_delivery_leased",
            ["lease_until"],
            unique=False,
            sqlite_where=sa.text("state = 'leased'"),
            postgresql_where=sa.text("state = 'leased'"),
        )
        batch_op.create_index(
            "ix_delivery_next",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('due', 'waiting')"),
            postgresql_where=sa.text("state IN ('due', 'waiting')"),
        )

    op.create_table(
        "run",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("flow_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("flow_version", sa.Integer(), nullable=False),
        sa.Column("event_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("event_type", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("replay_nonce", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("effect_nonce", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("lane", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("next_step", sa.Integer(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("crash_count", sa.Integer(), nullable=False),
        sa.Column("cause", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("say", columns.Document(), nullable=True),
        sa.Column("detail", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("started_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "event_id"],
            ["event.organization_id", "event.id"],
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "flow_id", "flow_version"],
            ["flow_version.organization_id", "flow_version.flow_id", "flow_version.number"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint(
            "organization_id", "flow_id", "event_id", "replay_nonce", name="uq_run_once"
        ),
    )
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.create_index("ix_run_event", ["organization_id", "event_id"], unique=False)
        batch_op.create_index("ix_run_flow", ["organization_id", "flow_id", "id"], unique=False)
        batch_op.create_index(
            "ix_run_next",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('due', 'waiting')"),
            postgresql_where=sa.text("state IN ('due', 'waiting')"),
        )
        batch_op.create_index(
            "ix_run_suspect",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('due', 'waiting') AND crash_count > 0"),
            postgresql_where=sa.text("state IN ('due', 'waiting') AND crash_count > 0"),
        )
        batch_op.create_index(
            "ix_run_leased",
            ["lease_until"],
            unique=False,
            sqlite_where=sa.text("state = 'leased'"),
            postgresql_where=sa.text("state = 'leased'"),
        )
        batch_op.create_index(
            "ix_run_parked",
            ["organization_id", "flow_id", "cause", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'parked'"),
            postgresql_where=sa.text("state = 'parked'"),
        )
        batch_op.create_index(
            "ix_run_ready",
            ["lane", "next_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('due', 'waiting')"),
            postgresql_where=sa.text("state IN ('due', 'waiting')"),
        )
        batch_op.create_index("ix_run_state", ["organization_id", "state", "id"], unique=False)

    op.create_table(
        "attempt",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("delivery_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", columns.Moment(), nullable=False),
        sa.Column("elapsed_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("failure", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("request_headers", columns.Document(), nullable=False),
        sa.Column("response_headers", columns.Document(), nullable=False),
        sa.Column("response_body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "delivery_id"],
            ["delivery.organization_id", "delivery.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "delivery_id", "number", name="uq_attempt_number"),
    )
    op.create_table(
        "release",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("app_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("vendor_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("version", sqlmodel.sql.sqltypes.AutoString(length=60), nullable=False),
        sa.Column("manifest", columns.Document(), nullable=False),
        sa.Column("source_text", sa.Text(), nullable=False),
        sa.Column("digest", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("findings", columns.Document(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("submitted_by", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("decided_by", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("decided_at", columns.Moment(), nullable=True),
        sa.Column("published_at", columns.Moment(), nullable=True),
        sa.CheckConstraint(
            "state IN ('in_review', 'approved', 'rejected', 'published', 'withdrawn')",
            name="release_state_known",
        ),
        sa.ForeignKeyConstraint(
            ["app_id"],
            ["app.id"],
        ),
        sa.ForeignKeyConstraint(
            ["vendor_id"],
            ["vendor.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("release", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_release_app_id"), ["app_id"], unique=False)
        batch_op.create_index("ix_release_state", ["state", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_release_vendor_id"), ["vendor_id"], unique=False)
        batch_op.create_index(
            "uq_release_version",
            ["app_id", "version"],
            unique=True,
            sqlite_where=sa.text("state <> 'rejected'"),
            postgresql_where=sa.text("state <> 'rejected'"),
        )

    op.create_table(
        "step",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("organization_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("run_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("key", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("kind", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("input", columns.Document(), nullable=True),
        sa.Column("output", columns.Document(), nullable=True),
        sa.Column("problem", columns.Document(), nullable=True),
        sa.Column("edited_input", columns.Document(), nullable=True),
        sa.Column("effect_key", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("started_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.Column("elapsed_ms", sa.Integer(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "run_id"],
            ["run.organization_id", "run.id"],
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("organization_id", "run_id", "position", name="uq_step_position"),
    )
    op.create_table(
        "listing",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("app_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("release_id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=True),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=False),
        sa.Column("tagline", columns.Document(), nullable=False),
        sa.Column("description", columns.Document(), nullable=True),
        sa.Column("facets", columns.Document(), nullable=False),
        sa.Column("search_name", sa.Text(), nullable=False),
        sa.Column("search_tagline", sa.Text(), nullable=False),
        sa.Column("search_body", sa.Text(), nullable=False),
        sa.CheckConstraint("state IN ('published', 'unpublished')", name="listing_state_known"),
        sa.ForeignKeyConstraint(
            ["app_id"],
            ["app.id"],
        ),
        sa.ForeignKeyConstraint(
            ["release_id"],
            ["release.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("app_id"),
    )
    op.create_table(
        "worker",
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(length=40), nullable=False),
        sa.Column("place", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("born", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("drains", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in TENANT_TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({POLICY}) WITH CHECK ({POLICY})")


def downgrade() -> None:
    """Go back to an empty database: everything in it goes."""
    for table in reversed(TABLES):
        op.drop_table(table)
