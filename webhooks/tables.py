"""An event's life, all tenant-owned: Source, Event, Endpoint, Delivery, Attempt, BulkReplay.

Beside them who looks after endpoints from outside: PortalLink, PortalVisit; what an organization
may send and has sent: Quota, Usage, Backlog, Refusals. And one of the hub itself: Worker. How long
data is kept is in webhooks.keeping.tables.
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

# what was given up is counted by its cause from the index alone
_BY_CAUSE = ("organization_id", "endpoint_id", "last_problem", "last_status")


def partial(name: str, *columns: str, where: str) -> Index:
    """An index over the few rows that still need work, so that it stays small on both databases."""
    condition = text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


class Source(Owned, table=True):
    """A URL where events come in, with the way it proves who sent them."""

    __table_args__ = (partial("ix_source_test", "organization_id", where="environment = 'test'"),)

    name: str
    # The path token is a secret: the digest finds the row, the sealed copy shows the URL again.
    token_digest: str = Field(sa_column=Column(String, unique=True, nullable=False))
    token_sealed: str
    scheme: str  # standard_webhooks | github | hmac | token | none | recipe
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
    environment: str = "live"  # live | test


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
        partial("ix_event_archived", "organization_id", "id", where="state = 'archived'"),
        partial("ix_event_quarantined", "organization_id", "id", where="state = 'quarantined'"),
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
    # new | waiting | routed | rejected | quarantined; `archived` is what remains of an event that
    # left the live list: an empty row that remembers its dedupe key for a while
    state: str = "new"
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)
    # "" for the first routing; a replay routes again under a fresh nonce.
    replay_nonce: str = ""
    failure_count: int = 0  # times a router refused it
    next_at: datetime | None = Field(default=None, sa_type=Moment)  # of one that waits


class Endpoint(Owned, table=True):
    """A URL of the organization where events go out to."""

    __table_args__ = (partial("ix_endpoint_circuit", "circuit_at", where="circuit_at IS NOT NULL"),)

    url: str
    description: str = ""
    event_types: list[str] = Field(default_factory=list, sa_type=Document)  # names, order.*, *
    signature: str = "hmac"  # hmac | ed25519
    secret_sealed: str  # whsec_… or whsk_…
    public_key: str | None = None  # whpk_… of an ed25519 key
    # Secrets that go on signing for a while: [{"sealed": …, "until": RFC 3339 time}], latest first.
    old_secrets: list[dict[str, str]] = Field(default_factory=list, sa_type=Document)
    # The owner's own headers: [{"name": …, "value": …}], with "sealed" for "value" when secret.
    headers: list[dict[str, str]] = Field(default_factory=list, sa_type=Document)
    client_certificate: str | None = None  # PEM, the chain behind it
    client_key_sealed: str | None = None
    certificate_until: datetime | None = Field(default=None, sa_type=Moment)
    condition: str | None = None  # CEL over the event; what it is false for is not sent
    large_payloads: str = "reference"  # reference | inline: how data above 256 kB goes out
    subscriber_id: str | None = None  # a partner who looks after it through a PortalLink
    # active | paused | disabled | deleted; a deleted one is there for what was sent to it alone
    state: str = Field(default="active", index=True)
    disabled_reason: str | None = None  # gone | failing | by_hand
    disabled_at: datetime | None = Field(default=None, sa_type=Moment)
    failing_since: datetime | None = Field(default=None, sa_type=Moment)
    # How many requests may be under way, over all workers; None leaves it to the hub.
    max_in_flight: int | None = None
    ordering: str = "none"  # none | endpoint | subject
    failure_streak: int = 0  # tries in a row that found the target down
    streak_since: datetime | None = Field(default=None, sa_type=Moment)
    # While it is open everything is held, but for one probe at a time; while it is refilling, what
    # was held is let go a little at a time. See webhooks.circuits.
    circuit: str = "closed"  # closed | open | refilling
    circuit_cause: str | None = None  # down | asked | suspended: its organization is
    circuit_since: datetime | None = Field(default=None, sa_type=Moment)
    circuit_at: datetime | None = Field(default=None, sa_type=Moment)  # next probe or portion
    probe_id: str | None = None  # the delivery that is sent to see whether the target is back
    probe_count: int = 0
    sends_missed: bool = False  # the refilling takes along what was parked while it was off


class Delivery(Owned, table=True):
    """One Event on its way to one Endpoint."""

    # Its event and its endpoint are never deleted before it; the store does not check that at every
    # row (decision 0008).
    __table_args__ = (
        UniqueConstraint(
            "organization_id", "event_id", "endpoint_id", "replay_nonce", name="uq_delivery_once"
        ),
        partial(
            "ix_delivery_due", "organization_id", "next_at", where="state IN ('due', 'waiting')"
        ),
        partial("ix_delivery_next", "next_at", where="state IN ('due', 'waiting')"),
        partial("ix_delivery_leased", "lease_until", where="state = 'leased'"),
        partial("ix_delivery_parked", "organization_id", "id", where="state = 'parked'"),
        partial("ix_delivery_trouble", *_BY_CAUSE, where="state = 'parked'"),
        partial(
            "ix_delivery_bulk",
            "organization_id",
            "bulk_replay_id",
            "state",
            where="bulk_replay_id IS NOT NULL",
        ),
        Index("ix_delivery_endpoint", "organization_id", "endpoint_id", "id"),
        partial(
            "ix_delivery_held",
            "organization_id",
            "endpoint_id",
            "event_id",
            where="state IN ('waiting', 'parked')",
        ),
        partial(
            "ix_delivery_lane",
            "organization_id",
            "endpoint_id",
            "lane",
            "event_id",
            "id",
            where="lane IS NOT NULL AND state IN ('due', 'waiting', 'leased', 'parked')",
        ),
        partial(
            "ix_delivery_lane_due",
            "organization_id",
            "endpoint_id",
            "next_at",
            where="lane IS NOT NULL AND next_at IS NOT NULL AND state IN ('due', 'waiting')",
        ),
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
    )  # None while it is held: the endpoint is paused or its circuit is not closed
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=Moment)
    crash_count: int = 0
    last_problem: str | None = None
    last_status: int | None = None
    # Deliveries of one lane go out one after another, by event; None: in no particular order.
    lane: str | None = None
    bulk_replay_id: str | None = None  # the last one it went out with
    delivered_at: datetime | None = Field(default=None, sa_type=Moment)
    # How often data sent by reference was fetched; None is never.
    fetch_count: int | None = None
    fetched_at: datetime | None = Field(default=None, sa_type=Moment)


class Attempt(Owned, table=True):
    """One HTTP try of a Delivery, with what was sent and what came back."""

    __table_args__ = (
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


class PortalLink(Owned, table=True):
    """What a subscriber, a partner without an account, may do with endpoints of its own.

    Several links may be of one subscriber, as when the first has run out: all of them lead to the
    same endpoints.
    """

    __table_args__ = (Index("ix_portal_link_subscriber", "organization_id", "subscriber_id"),)

    subscriber_id: str
    subscriber_name: str
    event_types: list[str] = Field(default_factory=list, sa_type=Document)  # what it may choose
    origins: list[str] = Field(default_factory=list, sa_type=Document)  # who may frame the portal
    max_endpoints: int
    colour: str | None = None  # #rrggbb of the portal's buttons and links
    expires_at: datetime = Field(sa_type=Moment)
    revoked_at: datetime | None = Field(default=None, sa_type=Moment)


class PortalVisit(Owned, table=True):
    """One way into a portal: first an address that works once, then a browser's session."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "link_id"], ["portal_link.organization_id", "portal_link.id"]
        ),
        UniqueConstraint("organization_id", "secret_digest", name="uq_portal_visit_secret"),
        Index("ix_portal_visit_expires", "expires_at"),
    )

    link_id: str
    secret_digest: str
    expires_at: datetime = Field(sa_type=Moment)
    opened_at: datetime | None = Field(default=None, sa_type=Moment)


class PortalLogo(Owned, table=True):
    """The picture that stands at the head of an organization's portals; its id is that one's."""

    content_type: str  # image/png | image/jpeg | image/webp
    content: bytes = Field(sa_type=LargeBinary)


class BulkReplay(Owned, table=True):
    """Many events sent to one Endpoint once more: a few first, the rest when those arrived."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "endpoint_id"], ["endpoint.organization_id", "endpoint.id"]
        ),
        partial("ix_bulk_replay_next", "next_at", where="next_at IS NOT NULL"),
    )

    endpoint_id: str
    event_types: list[str] = Field(default_factory=list, sa_type=Document)
    since: datetime = Field(sa_type=Moment)
    until: datetime = Field(sa_type=Moment)
    only_failed: bool = True
    # trying: the first few are under way | running | done | stopped | cancelled
    state: str = "trying"
    problem: str | None = None  # why it stopped: a delivery's short word
    after: str = ""  # the last event that was looked at
    is_fed: bool = False  # every event was looked at
    started: int = 0  # deliveries that were let go
    passed_over: int = 0  # events that the endpoint's condition keeps out
    next_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


class Quota(Owned, table=True):
    """How much may come in: the organization's own row has its id, others that of a source.

    None leaves the number to the settings, or for a source to its organization.
    """

    per_minute: int | None = None
    burst: int | None = None
    per_day: int | None = None
    backlog: int | None = None


class Usage(Owned, table=True):
    """What was counted in one hour at one source, or without any; its id starts with the hour."""

    __table_args__ = (Index("ix_usage_hour", "hour"),)

    hour: datetime = Field(sa_type=Moment)
    source_id: str = ""
    admitted: int = 0  # what the quotas let through, whatever became of it
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    routed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # events
    refused_proof: int = 0  # requests: the sender could not prove who it is
    refused_form: int = 0  # requests: what was sent could not be read
    refused_limit: int = 0  # requests: over a quota, or too much was waiting
    refused_pause: int = 0  # requests at a paused source, or of a suspended organization
    delivered: int = 0
    undelivered: int = 0  # tries that failed
    ran: int = 0
    stuck: int = 0  # runs that came to wait for a person
    deferred: int = 0  # events left to a drain, because many others were sending


class Backlog(Owned, table=True):
    """How much of an organization's waits, as last counted; its id is the organization's."""

    __table_args__ = (Index("ix_backlog_counted", "counted_at"),)

    events: int = 0
    deliveries: int = 0
    runs: int = 0
    counted_at: datetime = Field(sa_type=Moment)


class Refusals(Owned, table=True):
    """What was refused at a source's address; its id is the source's."""

    # code → {"count": …, "first_at": …, "last_at": …}
    counts: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    # the last few, newest first: {"at", "code", "title", "detail", "params", "headers", "sender"}
    latest: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)


class Nonce(Owned, table=True):
    """A word that a sender may use once; its id is the digest of source and word."""

    __table_args__ = (Index("ix_nonce_age", "organization_id", "created_at"),)

    seen: str  # the digest of what it came with


class Worker(Table, table=True):
    """A process of the hub that may hold leases."""

    id: str = Field(primary_key=True, max_length=40)
    place: str  # machine and process table, "" when unknown
    pid: int
    born: str  # tells it from a later process with the same pid
    beats: int = 0  # goes up while it lives
    drains: bool = False  # its work is to consume the bells and drain
    busy_percent: int = 0  # of the last second, taking events in
    busy_at: datetime | None = Field(default=None, sa_type=Moment)  # when it said so
    kind: str = Field(default="", sa_column_kwargs={"server_default": ""})  # web|worker|embedded
    version: str = Field(default="", sa_column_kwargs={"server_default": ""})
    heard_at: datetime | None = Field(default=None, sa_type=Moment)  # its last beat


# The tables for statements: to a type checker the attributes above are plain values.
SOURCE: Any = Source.__table__  # type: ignore[attr-defined]
EVENT: Any = Event.__table__  # type: ignore[attr-defined]
ENDPOINT: Any = Endpoint.__table__  # type: ignore[attr-defined]
DELIVERY: Any = Delivery.__table__  # type: ignore[attr-defined]
ATTEMPT: Any = Attempt.__table__  # type: ignore[attr-defined]
PORTAL_LINK: Any = PortalLink.__table__  # type: ignore[attr-defined]
PORTAL_VISIT: Any = PortalVisit.__table__  # type: ignore[attr-defined]
PORTAL_LOGO: Any = PortalLogo.__table__  # type: ignore[attr-defined]
BULK_REPLAY: Any = BulkReplay.__table__  # type: ignore[attr-defined]
QUOTA: Any = Quota.__table__  # type: ignore[attr-defined]
USAGE: Any = Usage.__table__  # type: ignore[attr-defined]
BACKLOG: Any = Backlog.__table__  # type: ignore[attr-defined]
REFUSALS: Any = Refusals.__table__  # type: ignore[attr-defined]
NONCE: Any = Nonce.__table__  # type: ignore[attr-defined]
WORKER: Any = Worker.__table__  # type: ignore[attr-defined]
