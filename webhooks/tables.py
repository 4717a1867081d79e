"""The tables of an event's life, all tenant-owned: Source, Event, Endpoint, Delivery, Attempt.

And one of the hub itself: Worker.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    text,
)
from sqlmodel import Field

from kernel.columns import Document, Moment, Table
from kernel.tenancy import Owned


def partial(name: str, *columns: str, where: str) -> Index:
    """An index over the few rows that still need work, so that it stays small on both databases."""
    condition = text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


class Source(Owned, table=True):
    """A URL where events come in, with the way it proves who sent them."""

    name: str
    # The path token is a secret: the digest finds the row, the sealed copy shows the URL again.
    token_digest: str = Field(sa_column=Column(String, unique=True, nullable=False))
    token_sealed: str
    scheme: str  # standard_webhooks | github | hmac | token | none
    secret_sealed: str | None = None
    previous_secret_sealed: str | None = None
    previous_secret_until: datetime | None = Field(default=None, sa_type=Moment)
    scheme_options: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    # {"from": "envelope|fixed|header|pointer", "value": …, "prefix": …, "id_pointer": …}
    type_rules: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    unknown_types: str = "accept"  # accept | reject
    connection_id: str | None = Field(default=None, index=True)
    connector_key: str | None = None
    trigger_key: str | None = None
    state: str = "active"  # active | paused


class Event(Owned, table=True):
    """A past-tense fact, stored once before its sender gets a 2xx."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "source_id"], ["source.organization_id", "source.id"]
        ),
        UniqueConstraint("organization_id", "origin", "dedupe_key", name="uq_event_dedupe"),
        partial("ix_event_ready", "organization_id", "id", where="state = 'new'"),
        partial("ix_event_waiting", "next_at", where="state = 'waiting'"),
        partial(
            "ix_event_trouble",
            "organization_id",
            "id",
            where="state IN ('rejected', 'quarantined')",
        ),
        Index("ix_event_type", "organization_id", "type", "id"),
    )

    source_id: str | None = None
    # Who the dedupe key belongs to: the source id, a connection id, "api" or "hub". Never null,
    # because a null would make every duplicate look new to the unique constraint.
    origin: str
    type: str
    version: int | None = None
    subject: str | None = None
    dedupe_key: str
    occurred_at: datetime = Field(sa_type=Moment)
    received_at: datetime = Field(sa_type=Moment)
    content_type: str = "application/json"
    headers: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    body: bytes = Field(sa_type=LargeBinary)
    state: str = "new"  # new | waiting | routed | rejected | quarantined
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)
    # "" for the first routing; a replay routes again under a fresh nonce.
    replay_nonce: str = ""
    failure_count: int = 0  # times a router refused it
    next_at: datetime | None = Field(default=None, sa_type=Moment)  # of one that waits


class Endpoint(Owned, table=True):
    """A URL of the organization where events go out to."""

    url: str
    description: str = ""
    event_types: list[str] = Field(default_factory=list, sa_type=Document)  # names, order.*, *
    secret_sealed: str
    previous_secret_sealed: str | None = None
    previous_secret_until: datetime | None = Field(default=None, sa_type=Moment)
    state: str = Field(default="active", index=True)  # active | paused | disabled
    disabled_reason: str | None = None
    failing_since: datetime | None = Field(default=None, sa_type=Moment)


class Delivery(Owned, table=True):
    """One Event on its way to one Endpoint."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "event_id"], ["event.organization_id", "event.id"]
        ),
        ForeignKeyConstraint(
            ["organization_id", "endpoint_id"], ["endpoint.organization_id", "endpoint.id"]
        ),
        UniqueConstraint(
            "organization_id", "event_id", "endpoint_id", "replay_nonce", name="uq_delivery_once"
        ),
        partial(
            "ix_delivery_due", "organization_id", "next_at", where="state IN ('due', 'waiting')"
        ),
        partial("ix_delivery_next", "next_at", where="state IN ('due', 'waiting')"),
        partial("ix_delivery_leased", "lease_until", where="state = 'leased'"),
        Index("ix_delivery_endpoint", "organization_id", "endpoint_id", "id"),
    )

    event_id: str
    endpoint_id: str
    replay_nonce: str = ""
    state: str = "due"  # due | leased | delivered | waiting | parked | cancelled
    attempt_count: int = 0
    # Place on the retry ladder; a resend starts again at 0 while attempt_count goes on counting.
    ladder_step: int = 0
    next_at: datetime | None = Field(
        default=None, sa_type=Moment
    )  # None while the endpoint is paused
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=Moment)
    crash_count: int = 0
    last_problem: str | None = None
    last_status: int | None = None
    delivered_at: datetime | None = Field(default=None, sa_type=Moment)


class Attempt(Owned, table=True):
    """One HTTP try of a Delivery, with what was sent and what came back."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "delivery_id"], ["delivery.organization_id", "delivery.id"]
        ),
        UniqueConstraint("organization_id", "delivery_id", "number", name="uq_attempt_number"),
    )

    delivery_id: str
    number: int
    started_at: datetime = Field(sa_type=Moment)
    elapsed_ms: int
    status: int | None = None
    failure: str | None = None  # a kind of kernel.http.Failure, or "status" for a non-2xx answer
    request_headers: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    response_headers: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    response_body: bytes = Field(default=b"", sa_type=LargeBinary)  # first 4 kB


class Worker(Table, table=True):
    """A process of the hub that may hold leases."""

    id: str = Field(primary_key=True, max_length=40)
    place: str  # machine and process table, "" when unknown
    pid: int
    born: str  # tells it from a later process with the same pid
    beats: int = 0  # goes up while it lives
    drains: bool = False  # its work is to consume the bells and drain


# The tables for statements: to a type checker the attributes above are plain values.
SOURCE: Any = Source.__table__  # type: ignore[attr-defined]
EVENT: Any = Event.__table__  # type: ignore[attr-defined]
ENDPOINT: Any = Endpoint.__table__  # type: ignore[attr-defined]
DELIVERY: Any = Delivery.__table__  # type: ignore[attr-defined]
ATTEMPT: Any = Attempt.__table__  # type: ignore[attr-defined]
WORKER: Any = Worker.__table__  # type: ignore[attr-defined]
