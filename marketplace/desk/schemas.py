"""What comes in at the desk's JSON routes, and what leaves."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from webhooks.schemas import LimitsOut, SpanOut, WaitingOut


class Input(BaseModel):
    """What programs send: nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid")


class NeedOut(BaseModel):
    """Something the hub needs of its operator."""

    code: str
    tone: str
    says: str
    todo: str


class ProcessOut(BaseModel):
    """A process of the hub."""

    id: str
    kind: str
    machine: str
    pid: int
    version: str
    since: datetime
    heard_at: datetime
    is_silent: bool


class StoreOut(BaseModel):
    """The database."""

    kind: str
    bytes: int
    revision: str
    wanted_revision: str
    is_current: bool
    read_ms: float
    commit_ms: float
    connections: int | None
    connections_allowed: int | None


class BrokerOut(BaseModel):
    """The bell, as the process that answers sees it."""

    kind: str
    is_reachable: bool
    away_since: datetime | None
    rung: int
    lost: int


class DiskOut(BaseModel):
    """The disk under the hub's own files."""

    free_bytes: int
    total_bytes: int
    used_percent: int


class HealthOut(BaseModel):
    """How the hub is; counts stop at 10,001, which means more than 10,000."""

    at: datetime
    mode: str
    version: str
    needs: list[NeedOut]
    store: StoreOut
    broker: BrokerOut
    disk: DiskOut
    archive: str | None
    processes: list[ProcessOut]
    counts: dict[str, int]
    oldest_event_at: datetime | None
    hours: list[SpanOut]


class TenantOut(BaseModel):
    """An organization as its operator sees it; events are counted, never shown."""

    id: str
    name: str
    state: str
    weight: int
    created_at: datetime
    is_vendor: bool
    is_operator: bool
    members: int
    apps: int
    today: int
    month: int
    waiting: int
    failures: int
    quota_percent: int
    limits: LimitsOut


class StoppedOut(BaseModel):
    """What waits for a person."""

    kind: str
    name: str
    why: str
    count: int


class CircuitOut(BaseModel):
    """An endpoint to which nothing goes out now."""

    host: str
    state: str
    cause: str | None
    since: datetime | None
    next_at: datetime | None


class RefusedOut(BaseModel):
    """What was refused at a source."""

    source: str
    code: str
    title: str
    count: int
    last_at: datetime


class ContactOut(BaseModel):
    """An owner."""

    name: str
    email: str


class TenantDetailOut(BaseModel):
    """All the desk knows of an organization."""

    tenant: TenantOut
    suspended_at: datetime | None
    suspended_because: str | None
    contacts: list[ContactOut]
    used_today: int
    waiting: WaitingOut
    stopped: list[StoppedOut]
    circuits: list[CircuitOut]
    refused: list[RefusedOut]
    days: list[SpanOut]


class TenantIn(Input):
    """What an operator may change; only what is sent changes, null goes back to the settings."""

    weight: int | None = Field(None, ge=1, le=100)
    per_minute: int | None = Field(None, ge=1, le=1_000_000_000)
    burst: int | None = Field(None, ge=1, le=1_000_000_000)
    per_day: int | None = Field(None, ge=1, le=1_000_000_000)
    backlog: int | None = Field(None, ge=1, le=1_000_000_000)


class SuspendIn(Input):
    """Why; the members of the organization read it."""

    reason: str = Field(min_length=1, max_length=500)


class ActOut(BaseModel):
    """What an operator did to whom."""

    id: str
    at: datetime
    organization_id: str
    actor_kind: str
    actor_id: str | None
    actor_name: str
    action: str
    object_id: str | None
    ip: str | None
    detail: dict[str, Any] | None
