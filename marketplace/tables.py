"""The shop's own tables: what is installed, the rollouts that put it there, and their steps."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from kernel.columns import Document, Moment
from kernel.ids import new_id
from kernel.tenancy import Owned

INSTALLATION_KINDS = ("hub", "external")
INSTALLATION_STATES = ("installing", "active", "uninstalling", "absent")
DIRECTIONS = ("install", "uninstall")
# An install walks down this list; whatever goes wrong sends it to compensating and then absent.
ROLLOUT_STATES = (
    "requested",
    "validating",
    "provisioning",
    "connecting",
    "subscribing",
    "wiring",
    "testing",
    "active",
    "compensating",
    "absent",
)
FINISHED = ("active", "absent")
# Written out, because a partial index only serves queries that state its very condition.
OPEN = "state NOT IN ('active', 'absent')"
STEP_STATES = ("waiting", "running", "done", "failed", "undoing", "undone", "skipped")


def _one_of(column: str, values: tuple[str, ...], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


class Rollout(Owned, table=True):
    """One installing or uninstalling of a bundle or an app; it ends `active` or `absent`."""

    __table_args__ = (
        # claim_key names what is being rolled out and is empty again at the end: two clicks at the
        # same moment can make one open rollout only, also from two processes.
        UniqueConstraint("organization_id", "claim_key", name="uq_rollout_claim"),
        _one_of("direction", DIRECTIONS, "rollout_direction_known"),
        _one_of("state", ROLLOUT_STATES, "rollout_state_known"),
        Index(
            "ix_rollout_due",
            "next_at",
            sqlite_where=text(OPEN),
            postgresql_where=text(OPEN),
        ),
        Index("ix_rollout_bundle", "organization_id", "bundle_key", "id"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("rol"), max_length=40)
    direction: str = Field(default="install", max_length=12)
    bundle_key: str | None = Field(default=None, max_length=80)
    app_key: str | None = Field(default=None, max_length=80)
    claim_key: str | None = Field(default=None, max_length=100)
    title: Any = Field(default_factory=dict, sa_type=Document)  # {zh, en}, as it was then
    state: str = Field(default="requested", max_length=16)
    lease_owner: str | None = Field(default=None, max_length=80)
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=Moment)
    next_at: datetime | None = Field(default=None, sa_type=Moment)
    attempt_count: int = 0
    # {"code": …, "zh": …, "en": …}: why it ended absent, in words for the owner
    problem: Any = Field(default=None, sa_type=Document, nullable=True)
    # [{"app_key": …, "zh": …, "en": …}]: what a vendor who never answered may still hold
    notes: Any = Field(default_factory=list, sa_type=Document)
    cancel_requested_at: datetime | None = Field(default=None, sa_type=Moment)
    requested_by: str | None = Field(default=None, max_length=40)
    requested_by_name: str = Field(default="", max_length=120)
    started_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


class RolloutStep(Owned, table=True):
    """One step of a Rollout: what it says to people, and what undoing it will need."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "rollout_id"], ["rollout.organization_id", "rollout.id"]
        ),
        UniqueConstraint("organization_id", "rollout_id", "position", name="uq_rollout_step"),
        _one_of("state", STEP_STATES, "rollout_step_state_known"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("rst"), max_length=40)
    rollout_id: str = Field(max_length=40)
    position: int
    kind: str = Field(max_length=20)  # a key of rollout_turns.KINDS
    app_key: str | None = Field(default=None, max_length=80)
    part_key: str | None = Field(default=None, max_length=80)  # which trigger or flow template
    installation_id: str | None = Field(default=None, max_length=40)
    state: str = Field(default="waiting", max_length=12)
    attempt_count: int = 0
    title: Any = Field(default_factory=dict, sa_type=Document)  # {zh, en}
    say: Any = Field(default=None, sa_type=Document, nullable=True)  # {zh, en}: what came of it
    # What the next steps or an undo need; never a secret: those live in the Connection alone.
    state_kept: Any = Field(default_factory=dict, sa_type=Document)
    budget_seconds: int = 5
    started_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


class Installation(Owned, table=True):
    """An Organization uses an App: set up by the hub, or run by the customer and only linked."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "rollout_id"], ["rollout.organization_id", "rollout.id"]
        ),
        # live_key is the app's key while the hub's installation is not absent: one per app.
        UniqueConstraint("organization_id", "live_key", name="uq_installation_live"),
        _one_of("kind", INSTALLATION_KINDS, "installation_kind_known"),
        _one_of("state", INSTALLATION_STATES, "installation_state_known"),
        Index("ix_installation_state", "organization_id", "state", "id"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("ins"), max_length=40)
    app_key: str | None = Field(default=None, max_length=80)  # None: an app we do not know
    release_id: str | None = Field(default=None, max_length=40)
    kind: str = Field(default="hub", max_length=12)
    live_key: str | None = Field(default=None, max_length=80)
    title: Any = Field(default_factory=dict, sa_type=Document)  # {zh, en}
    slot: str | None = Field(default=None, max_length=40)
    state: str = Field(default="installing", max_length=16)
    account: str | None = Field(default=None, max_length=200)
    open_url: str | None = Field(default=None, max_length=2000)
    connection_id: str | None = Field(default=None, max_length=40)
    source_id: str | None = Field(default=None, max_length=40)
    settings: Any = Field(default_factory=dict, sa_type=Document)
    bundle_key: str | None = Field(default=None, max_length=80)
    rollout_id: str | None = Field(default=None, max_length=40)
    installed_at: datetime | None = Field(default=None, sa_type=Moment)
    uninstalled_at: datetime | None = Field(default=None, sa_type=Moment)
