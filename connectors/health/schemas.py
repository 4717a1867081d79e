"""What callers get to see of the life of connections."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from connectors.schemas import Strict, Words


class HourOut(BaseModel):
    """What became of the calls within one hour."""

    start: datetime
    ok: int
    failed: int
    waited: int = Field(description="Held back by a budget.")


class HealthOut(BaseModel):
    """How the calls over a connection went within seven days."""

    last_ok_at: datetime | None
    last_failed_at: datetime | None
    last_problem: dict[str, object] | None
    ok: int
    failed: int
    refused: int = Field(description="Of those that failed: the app asked for a slower pace.")
    waited: int
    causes: dict[str, int] = Field(description="Kinds of errors, by how often they came.")
    mean_ms: int | None
    slowest_ms: int
    held: int = Field(description="Runs that wait before a call, for a budget or a pause.")
    held_until: datetime | None
    days_left: int | None = Field(description="Until something ends that needs a person.")
    unheard_flows: list[str] = Field(
        description="Flows that listen to this connection alone, while no source brings its events."
    )
    hours: list[HourOut] = Field(description="The last 24 hours, the oldest first.")


class GaugeOut(BaseModel):
    """How one of an app's limits stands."""

    id: str
    per: str = Field(description="connection | app | organization")
    part: str = Field(description="calls | token")
    allow: int
    period_seconds: int
    at_once: int
    left: int = Field(description="Calls that may go at once now.")
    used: int
    full_at: datetime | None = Field(description="When all may go at once again; null: now.")
    blocked_until: datetime | None = Field(description="The app asked for a pause until then.")
    parallel: int | None
    in_air: int
    flows_waiting: int


class ReconnectLinkIn(Strict):
    """A new link; whoever opens it reads the note."""

    note: str = Field(default="", max_length=200)


class ReconnectLinkOut(BaseModel):
    """Leave to renew one connection, once."""

    id: str
    connection_id: str
    note: str
    made_by_name: str
    state: str = Field(description="active | held | used | revoked | expired")
    expires_at: datetime
    opened_at: datetime | None
    used_at: datetime | None
    held_account: dict[str, object] | None = Field(
        default=None, description="The other account that waits for your decision, {id, name}."
    )
    created_at: datetime


class ReconnectLinkMadeOut(ReconnectLinkOut):
    """A link that was just made, with its address, which is not shown again."""

    url: str


class LinkDecisionIn(Strict):
    """Whether another account than before is taken."""

    decision: Literal["accept", "drop"]


class ExpiringOut(BaseModel):
    """A connection that needs a person soon."""

    id: str
    name: str
    connector_key: str
    ends_what: str
    ends_at: datetime
    days_left: int
    why: Words


class SourceTieIn(Strict):
    """Which connection a source brings the events of; null: none."""

    connection_id: str | None = Field(max_length=40)


class SourceTieOut(BaseModel):
    """A source and the connection whose events it brings."""

    id: str
    connection_id: str | None
    connector_key: str | None
