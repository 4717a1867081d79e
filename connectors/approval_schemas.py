"""What callers may write and what they get to see, for approvals."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ApprovalOut(BaseModel):
    """A question that a run puts to people."""

    id: str
    flow_id: str
    run_id: str
    key: str
    title: str
    text: str
    roles: list[str] = Field(description="Members with one of these roles are asked.")
    members: list[str] = Field(description="These members are asked.")
    state: str = Field(description="open, approved, refused or withdrawn")
    at_deadline: str = Field(description="What counts when nobody decides: refuse or approve.")
    deadline_at: datetime
    reminded_at: datetime | None
    comment: str | None
    decided_by: str | None = Field(description="The person; null when the deadline decided.")
    decided_name: str | None
    decided_at: datetime | None
    created_at: datetime


class DecisionIn(BaseModel):
    """What a person decides."""

    model_config = ConfigDict(extra="forbid")

    decision: Annotated[str, Field(pattern=r"^(approve|refuse)$")]
    comment: Annotated[str, Field(max_length=1_000)] = ""
