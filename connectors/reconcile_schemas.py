"""What callers write and see of apps that are asked: polls, and looks for missing events."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from connectors.schemas import Name, Strict, Words


class PollIn(Strict):
    """How an app that sends nothing by itself is asked."""

    trigger: Name = Field(description="Which of the connector's triggers.")
    input: dict[str, str] = Field(
        default_factory=dict, description="What the connector asks for, such as which shop."
    )
    every_seconds: int | None = Field(default=None, description="null: as its manifest says.")
    since: datetime | None = Field(
        default=None, description="Bring in what changed since then; null: from now on."
    )


class PollOut(BaseModel):
    """A trigger of an app that sends nothing by itself, and how asking it goes."""

    id: str | None = Field(description="Also that of its events' source; null: not asked.")
    trigger: str
    event: str
    title: Words
    input: dict[str, Any]
    every_seconds: int
    complete_until: datetime | None = Field(description="The app was asked for all up to then.")
    last_at: datetime | None
    next_at: datetime | None
    events: int
    problem: dict[str, Any] | None


class ReconciliationIn(Strict):
    """Over which connection a source's sender is asked, and what else it must know."""

    connection_id: Name
    input: dict[str, str] = Field(
        default_factory=dict, description="What the connector asks for, such as which repository."
    )


class MissingOut(BaseModel):
    """A missing event: asked for, or given up with the reason."""

    key: str
    type: str
    at: datetime
    state: str
    asks: int
    next_at: datetime | None
    why: Words | None


class CountsOut(BaseModel):
    """What was missing, what was asked for, what came, what did not."""

    found: int
    asked: int
    fetched: int
    failed: int


class ReconciliationOut(BaseModel):
    """How the look for missing events stands."""

    source_id: str
    connection_id: str
    input: dict[str, Any]
    state: str = Field(description="looking, waiting or trouble")
    complete_until: datetime = Field(description="Nothing before it is known to be missing.")
    last_at: datetime | None
    next_at: datetime
    counts: CountsOut
    missing: list[MissingOut]
    problem: dict[str, Any] | None
