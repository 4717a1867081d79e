"""What callers may write and what they get to see, for incidents and repairs."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class RepairOut(BaseModel):
    """The runs of an incident repeated or given up together."""

    id: str
    incident_id: str
    kind: str = Field(description="replay or cancel")
    state: str = Field(
        description="trying (the first few are under way), running, done, stopped or cancelled"
    )
    canary_count: int
    started: int = Field(description="Runs that were let go.")
    failed: int = Field(description="Those of them that are known to have stopped again.")
    asked_by: str
    created_at: datetime
    finished_at: datetime | None


class IncidentOut(BaseModel):
    """A cause that holds something up, and what is known of it."""

    id: str
    kind: str = Field(description="run, retry, delivery or refusal")
    cause: str
    code: str
    title: str
    sentence: str = Field(description="What happened, in the reader's language.")
    safe: str
    what_to_do: str
    who_acts: str = Field(
        description="signer, author, looker, vendor, nobody, receiver, sender or operator"
    )
    connector: str | None
    action: str | None
    connection_id: str | None
    endpoint_id: str | None
    source_id: str | None
    flow_ids: list[str]
    state: str = Field(description="open or closed")
    opened_at: datetime
    opened_count: int
    last_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    stuck_count: int = Field(description="What it holds up now.")
    total_count: int
    by_hour: dict[str, int] = Field(description="Failures of the last two days, by hour in UTC.")
    assignee_id: str | None
    assignee_name: str | None
    note: str
    tried: list[dict[str, Any]]


class IncidentIn(BaseModel):
    """What people say about an incident; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    assignee_id: Annotated[str, Field(max_length=40)] | None = None
    note: Annotated[str, Field(max_length=2_000)] | None = None


class RepairIn(BaseModel):
    """How runs are repaired together."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[str, Field(pattern=r"^(replay|cancel)$")] = "replay"
    canaries: Annotated[int, Field(ge=1, le=20)] = 3
