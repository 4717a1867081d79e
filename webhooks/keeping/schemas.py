"""What callers may write and get to see of kept data: rules, chunks, exports, erasures."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from webhooks.schemas import EventDetailOut

Pattern = Annotated[
    str, Field(min_length=1, max_length=200, description="A type, a group such as order.*, or *.")
]
Days = Annotated[int, Field(ge=1, le=3650)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RuleIn(_In):
    """How long events of some types are kept; it takes the place of the rule for the same types."""

    event_types: Pattern = "*"
    live_days: Days = 90
    rejected_days: Days = 30
    archive_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        730, description="Counted from when they leave the live list; 0: not archived, deleted."
    )
    detail_days: Days = Field(
        30, description="Of tries' headers and answers and of runs' steps; in the rule * alone."
    )


class RuleOut(BaseModel):
    """A rule; without an id it is the hub's own."""

    id: str | None
    event_types: str
    live_days: int
    rejected_days: int
    archive_days: int
    detail_days: int


class KeepingOut(BaseModel):
    """The rules, what there is today, and when it is looked after next."""

    rules: list[RuleOut]
    live_events: int = Field(description="At most 100,000 are counted.")
    oldest_at: datetime | None
    archived_events: int
    archived_bytes: int
    next_at: datetime | None
    finished_at: datetime | None
    trouble: str | None


class ChunkOut(BaseModel):
    """A file of the archive."""

    id: str
    day: str
    event_types: str
    types: list[str]
    from_at: datetime
    until_at: datetime
    event_count: int
    delivery_count: int
    run_count: int
    byte_count: int
    digest: str
    created_at: datetime


class ArchivedEventOut(EventDetailOut):
    """An archived event with what became of it."""

    deliveries: list[dict[str, Any]]
    runs: list[dict[str, Any]]


class RestoredOut(BaseModel):
    """The id of an event that came back."""

    event_id: str


class SpanIn(_In):
    """Which archived events to repeat; without `confirmed` they are only counted."""

    since: AwareDatetime
    until: AwareDatetime
    event_types: Pattern = "*"
    confirmed: bool = False


class PreviewOut(BaseModel):
    """How many events, and whether there are more for a further call."""

    count: int
    is_more: bool
    is_done: bool


class ExportIn(_In):
    """Which events to write into a file."""

    since: AwareDatetime
    until: AwareDatetime
    event_types: Pattern = "*"


class ExportOut(BaseModel):
    """An export and how far it is."""

    id: str
    from_at: datetime
    until_at: datetime
    event_types: str
    state: str
    stage: str
    event_count: int
    delivery_count: int
    run_count: int
    byte_count: int
    digest: str | None
    problem: str | None
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None


class ErasureIn(_In):
    """What to erase: everything about a subject, or one event by its id."""

    kind: Literal["subject", "event"]
    value: Annotated[str, Field(min_length=1, max_length=500)]


class ErasureOut(BaseModel):
    """The receipt of an erasure."""

    id: str
    kind: str
    value_mark: str
    state: str
    moving: list[str]
    live_events: int
    archived_events: int
    deliveries: int
    runs: int
    chunks_rewritten: int
    exports_deleted: int
    problem: str | None
    created_at: datetime
    finished_at: datetime | None
