"""The tables of identity: organizations, people, their seats, their proofs and the audit trail."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from identity.roles import ROLES
from kernel.columns import Document, Moment, Table
from kernel.ids import new_id
from kernel.tenancy import Owned

_ROLE_LIST = ", ".join(f"'{role}'" for role in ROLES)


class Organization(Table, table=True):
    """A tenant: a firm that uses the hub, publishes on it, or runs it."""

    __table_args__ = (
        CheckConstraint("weight BETWEEN 1 AND 100", name="organization_weight_known"),
        Index(
            "ix_organization_held",
            "state",
            sqlite_where=text("state <> 'active'"),
            postgresql_where=text("state <> 'active'"),
        ),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("org"), max_length=40)
    name: str = Field(max_length=120)
    slug: str | None = Field(default=None, unique=True, max_length=60)
    is_vendor: bool = False
    is_operator: bool = False
    industry: str | None = Field(default=None, max_length=60)
    size: str | None = Field(default=None, max_length=20)
    # Its share of the hub's work when many wait, beside the weights of the others.
    weight: int = Field(default=10, sa_column_kwargs={"server_default": "10"})
    # active | suspended | resuming; see identity.suspensions
    state: str = Field(
        default="active", max_length=12, sa_column_kwargs={"server_default": "active"}
    )
    suspended_at: datetime | None = Field(default=None, sa_type=Moment)
    suspended_because: str | None = Field(default=None, max_length=500)  # its members read it


class User(Table, table=True):
    """A person; one e-mail address, any number of organizations."""

    id: str = Field(primary_key=True, default_factory=lambda: new_id("usr"), max_length=40)
    email: str = Field(unique=True, max_length=254)
    name: str = Field(max_length=80)
    # Empty until the person has chosen a password; nobody signs in with an empty one.
    password_digest: str | None = Field(default=None, max_length=255)
    language: str = Field(default="zh", max_length=8)
    password_changed_at: datetime | None = Field(default=None, sa_type=Moment)
    disabled_at: datetime | None = Field(default=None, sa_type=Moment)


class Member(Owned, table=True):
    """A User's seat in an Organization, with one role."""

    __table_args__ = (
        UniqueConstraint("organization_id", "user_id"),
        CheckConstraint(f"role IN ({_ROLE_LIST})", name="member_role_known"),
        CheckConstraint("status IN ('active', 'removed')", name="member_status_known"),
        Index("ix_member_user_id", "user_id"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("mem"), max_length=40)
    user_id: str = Field(foreign_key="user.id", max_length=40)
    role: str = Field(max_length=20)
    status: str = Field(default="active", max_length=20)


class Invitation(Owned, table=True):
    """An offer of a seat, proved by a link that works once and for seven days."""

    __table_args__ = (
        UniqueConstraint("organization_id", "digest"),
        CheckConstraint(f"role IN ({_ROLE_LIST})", name="invitation_role_known"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("inv"), max_length=40)
    digest: str = Field(max_length=64)
    email: str = Field(max_length=254)
    role: str = Field(max_length=20)
    invited_by: str | None = Field(default=None, max_length=40)
    expires_at: datetime = Field(sa_type=Moment)
    accepted_at: datetime | None = Field(default=None, sa_type=Moment)
    revoked_at: datetime | None = Field(default=None, sa_type=Moment)


class LoginSession(Table, table=True):
    """One signed-in browser; only the digest of its secret is kept."""

    __table_args__ = (Index("ix_login_session_previous_digest", "previous_digest"),)

    id: str = Field(primary_key=True, default_factory=lambda: new_id("ses"), max_length=40)
    digest: str = Field(unique=True, max_length=64)
    # The secret before the last rotation still answers for a few seconds, so that requests
    # already under way do not throw the person out.
    previous_digest: str | None = Field(default=None, max_length=64)
    rotated_at: datetime | None = Field(default=None, sa_type=Moment)
    must_rotate: bool = False
    user_id: str = Field(foreign_key="user.id", index=True, max_length=40)
    organization_id: str | None = Field(default=None, foreign_key="organization.id", max_length=40)
    authenticated_at: datetime = Field(sa_type=Moment)
    last_seen_at: datetime = Field(sa_type=Moment)
    expires_at: datetime = Field(sa_type=Moment)
    ended_at: datetime | None = Field(default=None, sa_type=Moment)
    user_agent: str = Field(default="", max_length=300)
    ip: str = Field(default="", max_length=64)


class ApiKey(Owned, table=True):
    """A secret with which a program acts for an Organization; shown once, kept as a digest."""

    __table_args__ = (
        UniqueConstraint("organization_id", "digest"),
        CheckConstraint(f"role IN ({_ROLE_LIST})", name="api_key_role_known"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("key"), max_length=40)
    digest: str = Field(max_length=64)
    hint: str = Field(max_length=12)
    name: str = Field(max_length=80)
    role: str = Field(max_length=20)
    # A list narrows the role; None leaves the role as it is.
    permissions: Any = Field(default=None, sa_type=Document, nullable=True)
    created_by: str | None = Field(default=None, foreign_key="user.id", max_length=40)
    last_used_at: datetime | None = Field(default=None, sa_type=Moment)
    expires_at: datetime | None = Field(default=None, sa_type=Moment)
    revoked_at: datetime | None = Field(default=None, sa_type=Moment)


class AuditEntry(Owned, table=True):
    """Who did what to which thing, when and from where; written once and never changed."""

    __table_args__ = (Index("ix_audit_entry_action", "action", "id"),)

    id: str = Field(primary_key=True, default_factory=lambda: new_id("aud"), max_length=40)
    actor_kind: str = Field(max_length=20)
    actor_id: str | None = Field(default=None, max_length=40)
    actor_name: str = Field(default="", max_length=120)
    action: str = Field(max_length=60)
    object_id: str | None = Field(default=None, max_length=120)
    at: datetime = Field(sa_type=Moment)
    ip: str | None = Field(default=None, max_length=64)
    detail: Any = Field(default=None, sa_type=Document, nullable=True)


class LoginThrottle(Table, table=True):
    """How often one account or one address has failed lately; shared by every process."""

    id: str = Field(primary_key=True, max_length=80)
    failures: int = 0
    last_failed_at: datetime = Field(sa_type=Moment, index=True)
    blocked_until: datetime | None = Field(default=None, sa_type=Moment)
