"""Connections to apps, flows and versions, runs, steps and approvals, looks for missing events."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from connectors.names import Name
from kernel.columns import Document, Moment, Table
from kernel.tenancy import Owned


def partial(name: str, *columns: str, where: str) -> Index:
    """Return an index over the few rows that still need work, on both databases."""
    condition = text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


class Connection(Owned, table=True):
    """An organization's authorised use of one connector."""

    __table_args__ = (
        Index("ix_connection_connector", "organization_id", "connector_key"),
        Index("ix_connection_installation", "organization_id", "installation_id"),
        partial("ix_connection_refresh", "refresh_at", where="refresh_at IS NOT NULL"),
        partial("ix_connection_ends", "organization_id", "ends_at", where="ends_at IS NOT NULL"),
    )

    connector_key: str
    name: str = Field(sa_type=Name)
    auth: str | None = None  # which of the connector's ways to prove who calls
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    # The public fields are shown again in the form; the sealed ones never leave the vault.
    public_fields: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    fields_sealed: str | None = None
    token_sealed: str | None = None
    token_expires_at: datetime | None = Field(default=None, sa_type=Moment)
    token_renew_at: datetime | None = Field(default=None, sa_type=Moment)  # a little before
    # When a person has to agree again in the app, if the app said so.
    grant_expires_at: datetime | None = Field(default=None, sa_type=Moment)
    # A consent under way: {state, verifier, session, user, until}; only its own browser ends it.
    consent_sealed: str | None = None
    account: dict[str, Any] | None = Field(default=None, sa_type=Document)  # whose it is: id, name
    # One worker asks for a token, the others wait for what it brings.
    token_lease_owner: str | None = None
    token_lease_until: datetime | None = Field(default=None, sa_type=Moment)
    state: str = "ready"  # ready | needs_attention | revoked
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {cause, say, detail}
    checked_at: datetime | None = Field(default=None, sa_type=Moment)
    installation_id: str | None = None
    assistant_access: str = "none"  # none | read | ask | act
    paused_at: datetime | None = Field(default=None, sa_type=Moment)  # by a person
    # When a key or certificate ends, as a person told; the soonest end that needs a person, and
    # what ends then; how many days before it somebody was last told.
    credentials_end_at: datetime | None = Field(default=None, sa_type=Moment)
    ends_at: datetime | None = Field(default=None, sa_type=Moment)
    ends_what: str | None = None  # consent | token | certificate | credentials
    warned_days: int | None = None
    # Renewing a consent's token ahead of time, so that it does not die of not being used.
    refresh_at: datetime | None = Field(default=None, sa_type=Moment)
    refresh_failures: int = 0
    refresh_failed_at: datetime | None = Field(default=None, sa_type=Moment)  # the first in a row
    environment: str = "live"  # live | test


class Flow(Owned, table=True):
    """A recipe: when this happens, do that; the draft is edited, published versions run."""

    __table_args__ = (
        partial(
            "ix_flow_listening",
            "organization_id",
            "listens_to",
            where="state = 'active' AND deleted_at IS NULL",
        ),
        Index("ix_flow_installation", "organization_id", "installation_id"),
    )

    name: str = Field(sa_type=Name)
    state: str = "draft"  # draft | active | paused
    published_version: int | None = None
    draft: dict[str, Any] | None = Field(default=None, sa_type=Document)
    draft_revision: int = 0  # goes up with every save, so that two editors never overwrite silently
    # Copies of the published trigger, so that routing reads no document.
    listens_to: str | None = None  # event type
    listens_version: int | None = None
    listens_source_id: str | None = None
    listens_connection_id: str | None = None
    lane: str | None = None  # where a new run of the published version goes first
    order_key: str | None = None  # what makes runs go one by one; None: they go side by side
    template_key: str | None = None
    installation_id: str | None = None
    deleted_at: datetime | None = Field(default=None, sa_type=Moment)


class FlowVersion(Owned, table=True):
    """A published flow document; never changed."""

    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "flow_id"], ["flow.organization_id", "flow.id"]),
        UniqueConstraint("organization_id", "flow_id", "number", name="uq_flow_version_number"),
    )

    flow_id: str
    number: int
    document: dict[str, Any] = Field(sa_type=Document)
    published_by: str | None = None
    published_at: datetime = Field(sa_type=Moment)
    environment: str = "live"  # live | test: which connections its steps name
    # As it was written, when an environment's connections stand in the document instead.
    written: dict[str, Any] | None = Field(default=None, sa_type=Document)


class Run(Owned, table=True):
    """One execution of one flow version for one event."""

    __table_args__ = (
        # Its event and its recipe are never deleted before it; the store does not check that at
        # every row (decision 0008).
        UniqueConstraint(
            "organization_id", "event_id", "flow_id", "replay_nonce", name="uq_run_once"
        ),
        partial("ix_run_ready", "lane", "next_at", where="state IN ('due', 'waiting')"),
        partial("ix_run_next", "next_at", where="state IN ('due', 'waiting')"),
        partial(
            "ix_run_suspect", "next_at", where="state IN ('due', 'waiting') AND crash_count > 0"
        ),
        partial("ix_run_leased", "lease_until", where="state = 'leased'"),
        partial(
            "ix_run_called",
            "organization_id",
            "parent_run_id",
            "id",
            where="parent_run_id IS NOT NULL",
        ),
        partial(
            "ix_run_resting",
            "organization_id",
            where="state = 'waiting' AND cause IN ('delay', 'approval', 'wait', 'call')",
        ),
        partial(
            "ix_run_parked", "organization_id", "flow_id", "cause", "id", where="state = 'parked'"
        ),
        # what stopped and belongs to no incident yet, and what stands under one
        partial(
            "ix_run_unsorted",
            "organization_id",
            "id",
            where="state = 'parked' AND incident_id IS NULL",
        ),
        partial(
            "ix_run_incident",
            "organization_id",
            "incident_id",
            "flow_id",
            "id",
            where="state = 'parked' AND incident_id IS NOT NULL",
        ),
        # what an app keeps waiting, and is tried again by itself
        partial(
            "ix_run_retrying",
            "organization_id",
            "lane",
            "cause",
            where="state = 'waiting' AND attempt_count >= 3 AND cause IN ('down', 'limit')",
        ),
        Index("ix_run_flow", "organization_id", "flow_id", "id"),
        Index("ix_run_state", "organization_id", "state", "id"),
        partial(
            "ix_run_order",
            "organization_id",
            "flow_id",
            "order_key",
            "event_id",
            "id",
            where="order_key IS NOT NULL AND state IN ('due', 'waiting', 'leased', 'parked')",
        ),
        partial(
            "ix_run_order_busy",
            "organization_id",
            "flow_id",
            "order_key",
            where="order_key IS NOT NULL AND (state = 'leased' OR next_at IS NOT NULL)",
        ),
        # what keeping looks for: the steps of these still have what they sent and got
        partial(
            "ix_run_detailed",
            "organization_id",
            "finished_at",
            where="state IN ('succeeded', 'skipped', 'cancelled') AND details_removed_at IS NULL",
        ),
    )

    flow_id: str
    flow_version: int
    event_id: str
    event_type: str
    replay_nonce: str = ""  # the event's; a replay from the start has a fresh one
    effect_nonce: str = ""  # changes only when a person asks for the effect once more
    # due | leased | waiting | succeeded | skipped | parked | cancelled
    state: str = "due"
    # Where the next call goes: the connection id, or the flow id while there is none. Lanes are
    # what claiming is fair over, and what a slow app fills up without holding the others.
    lane: str
    # What the event has under its flow's order key: runs of a flow with the same value go one by
    # one, and those behind the first of them wait without a time. None: it goes in no order.
    order_key: str | None = None
    next_step: int = 0  # a position as in Step
    next_at: datetime | None = Field(default=None, sa_type=Moment)
    attempt_count: int = 0  # tries of the present step
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=Moment)
    crash_count: int = 0
    # data | auth | config | down | limit | unknown | quarantined | filtered | refused | error_path
    # (it went one) | not_come; delay | approval | wait | call: what one that waits rests at
    # budget | paused: why its call waits
    cause: str | None = None
    say: dict[str, Any] | None = Field(default=None, sa_type=Document)
    detail: str | None = None
    # The trouble a parked run is counted under; whoever lets it go on takes it out.
    incident_id: str | None = None
    started_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)
    # When keeping took away what the steps sent and got, and after how many days.
    details_removed_at: datetime | None = Field(default=None, sa_type=Moment)
    details_kept_days: int | None = None
    # Of a run that another one called: which, at what position, how deep, and what it was handed
    # ({data}) and gives back ({output} or {problem}).
    parent_run_id: str | None = None
    parent_position: int | None = None
    depth: int | None = None
    called_with: dict[str, Any] | None = Field(default=None, sa_type=Document)
    result: dict[str, Any] | None = Field(default=None, sa_type=Document)
    environment: str | None = None  # test; None: live
    replayed_from: str | None = None  # the run whose earlier steps it took over


class Step(Owned, table=True):
    """One step of a run: what went in, what came out, how often it was tried."""

    __table_args__ = (
        UniqueConstraint("organization_id", "run_id", "position", name="uq_step_position"),
    )

    run_id: str
    position: int  # connectors.flow_paths: the number of the step, and of the item inside loops
    key: str
    kind: str  # filter | map | action | branch | each | delay | approval
    # sending | succeeded | skipped | waiting | failed | open (a loop that goes through its items)
    # `sending` is committed before a call that must never be made twice.
    state: str
    attempt_count: int = 0
    input: Any = Field(default=None, sa_type=Document, nullable=True)
    output: Any = Field(default=None, sa_type=Document, nullable=True)
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {cause, say, detail}
    edited_input: Any = Field(default=None, sa_type=Document, nullable=True)  # by a person
    effect_key: str | None = None
    started_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)
    elapsed_ms: int | None = None
    status: int | None = None  # HTTP status of the last answer
    taken_from: str | None = None  # the run that did it, when a replay took it over


class Approval(Owned, table=True):
    """A question that a run puts to people, and what they decided."""

    __table_args__ = (
        Index("ix_approval_run", "organization_id", "run_id"),
        partial("ix_approval_next", "next_at", where="state = 'open'"),
        Index("ix_approval_state", "organization_id", "state", "id"),
    )

    flow_id: str
    run_id: str
    position: int  # of the step in the run, as in Step
    key: str
    title: str
    text: str = ""
    # who is asked: whoever has one of these roles, and these members
    roles: list[str] = Field(default_factory=list, sa_type=Document)
    members: list[str] = Field(default_factory=list, sa_type=Document)
    state: str = "open"  # open | approved | refused | withdrawn
    at_deadline: str = "refuse"  # refuse | approve
    # Who its link lets decide: sign_in (who is asked) | named (the one person who is asked).
    by_link: str = "sign_in"
    deadline_at: datetime = Field(sa_type=Moment)
    next_at: datetime | None = Field(default=None, sa_type=Moment)  # reminder or deadline
    reminded_at: datetime | None = Field(default=None, sa_type=Moment)
    comment: str | None = None
    decided_by: str | None = None  # the person's user id; None: the deadline
    decided_name: str | None = None
    decided_at: datetime | None = Field(default=None, sa_type=Moment)


class Reconciliation(Owned, table=True):
    """The look for what an app says it sent and a source never got; its id is the source's."""

    __table_args__ = (
        partial("ix_reconciliation_next", "next_at", where="state = 'waiting'"),
        partial("ix_reconciliation_leased", "lease_until", where="state = 'leased'"),
        Index("ix_reconciliation_connection", "organization_id", "connection_id"),
    )

    connection_id: str
    input: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    state: str = "waiting"  # waiting | leased
    next_at: datetime = Field(sa_type=Moment)  # of the next turn
    look_at: datetime = Field(sa_type=Moment)  # of the next whole look
    # The app was asked for everything up to here: what is missing before is named in `missing`.
    cursor: datetime = Field(sa_type=Moment)
    # A look under way: {began_at, since, page, pages, found, fetched, failed}.
    progress: dict[str, Any] | None = Field(default=None, sa_type=Document)
    # [{key, id, type, at, state: open | asked | lost, asks, next_at, why}], the oldest first
    missing: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)
    last: dict[str, Any] | None = Field(default=None, sa_type=Document)  # what the last look did
    last_at: datetime | None = Field(default=None, sa_type=Moment)
    skew_seconds: int = 0  # how far the app's clock is ahead of ours
    every_seconds: int | None = None  # of a polled app: how often it is asked; None: as others are
    token: str | None = None  # where its next look begins, in the app's own words
    failure_count: int = 0  # turns in a row that ended with a problem
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {cause, say, detail}
    found_count: int = 0
    asked_count: int = 0
    fetched_count: int = 0
    failed_count: int = 0
    called_at: datetime | None = Field(default=None, sa_type=Moment)
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=Moment)


class TemplateProof(Table, table=True):
    """How a ready-made flow's last rehearsal went; its id is the template's key."""

    __table_args__ = (Index("ix_template_proof_next", "next_at"),)

    id: str = Field(primary_key=True, max_length=120)
    state: str = "new"  # new | ok | failed
    proved_at: datetime | None = Field(default=None, sa_type=Moment)
    hub_version: str = ""
    digest: str = ""  # of the template that was rehearsed
    trial_count: int = 0
    elapsed_ms: int = 0
    # what does not hold: [{pointer, say: {zh, en}}]
    problems: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)
    next_at: datetime = Field(sa_type=Moment)
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=Moment)


class Heartbeat(Table, table=True):
    """When the hub was last there to take events in; one row."""

    id: str = Field(primary_key=True, max_length=40)
    beat_at: datetime = Field(sa_type=Moment)
    away_from: datetime | None = Field(
        default=None, sa_type=Moment
    )  # the last gap that was noticed
    away_until: datetime | None = Field(default=None, sa_type=Moment)


# The tables for statements: to a type checker the attributes above are plain values.
CONNECTION: Any = Connection.__table__  # type: ignore[attr-defined]
RUN: Any = Run.__table__  # type: ignore[attr-defined]
STEP: Any = Step.__table__  # type: ignore[attr-defined]
APPROVAL: Any = Approval.__table__  # type: ignore[attr-defined]
RECONCILIATION: Any = Reconciliation.__table__  # type: ignore[attr-defined]
TEMPLATE_PROOF: Any = TemplateProof.__table__  # type: ignore[attr-defined]
HEARTBEAT: Any = Heartbeat.__table__  # type: ignore[attr-defined]
