"""Troubles by their cause, whose turn it is to look for them, and repairs of many runs at once."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from connectors.tables import partial
from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class Incident(Owned, table=True):
    """One cause that holds up runs or deliveries, or turns webhooks away."""

    __table_args__ = (
        UniqueConstraint("organization_id", "fingerprint", name="uq_incident_fingerprint"),
        Index("ix_incident_state", "organization_id", "state", "id"),
        partial("ix_incident_due", "organization_id", "next_at", where="state = 'open'"),
    )

    kind: str  # run | retry | delivery | refusal
    fingerprint: str  # digest of all that makes two failures the same trouble
    # run: as of runs; retry: down | limit; delivery: a delivery's problem; refusal: a code
    cause: str
    code: str = ""  # what the app said, without what differs from one record to the next
    connector_key: str | None = None
    action_key: str | None = None
    connection_id: str | None = None
    endpoint_id: str | None = None
    source_id: str | None = None
    flow_ids: list[str] = Field(default_factory=list, sa_type=Document)  # the first few
    say: dict[str, Any] | None = Field(default=None, sa_type=Document)
    sample_id: str | None = None  # the run that showed it last
    state: str = "open"  # open | closed
    opened_at: datetime = Field(sa_type=Moment)  # the last time
    opened_count: int = 1
    last_at: datetime = Field(sa_type=Moment)  # of the last failure
    closed_at: datetime | None = Field(default=None, sa_type=Moment)
    closed_by: str | None = None  # a person's name; None: it was over by itself
    stuck_count: int = 0  # what it holds up now
    total_count: int = 0  # what it ever held up
    # Of a refusal: how many the source's counter had when it was last closed.
    counted: int = 0
    next_at: datetime | None = Field(default=None, sa_type=Moment)  # of the next count
    tally: dict[str, int] = Field(default_factory=dict, sa_type=Document)  # hour → failures
    assignee_id: str | None = None  # a member
    assignee_name: str | None = None
    note: str = ""
    # What was tried, the newest first: [{at, by, what, count, outcome}]
    tried: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)


class IncidentRound(Owned, table=True):
    """When an organization's trouble is looked at next; its id is the organization's."""

    __table_args__ = (partial("ix_incident_round_next", "next_at", where="next_at IS NOT NULL"),)

    next_at: datetime | None = Field(default=None, sa_type=Moment)
    looked_at: datetime | None = Field(default=None, sa_type=Moment)  # at deliveries and sources


class BulkRepair(Owned, table=True):
    """The runs of an incident repeated, a few first, or given up together."""

    __table_args__ = (
        partial("ix_bulk_repair_next", "next_at", where="next_at IS NOT NULL"),
        Index("ix_bulk_repair_incident", "organization_id", "incident_id", "id"),
    )

    incident_id: str
    kind: str = "replay"  # replay | cancel
    # trying: the first few are under way | running | done | stopped | cancelled
    state: str = "trying"
    canary_count: int = 3
    canary_ids: list[str] = Field(default_factory=list, sa_type=Document)
    until: datetime = Field(sa_type=Moment)  # what stopped later is no part of it
    started: int = 0
    failed: int = 0  # stopped again
    asked_by: str = ""
    next_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


# The tables for statements: to a type checker the attributes above are plain values.
INCIDENT: Any = Incident.__table__  # type: ignore[attr-defined]
ROUND: Any = IncidentRound.__table__  # type: ignore[attr-defined]
REPAIR: Any = BulkRepair.__table__  # type: ignore[attr-defined]
