"""What leaves about completions."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class CompletionOut(BaseModel):
    """One event that is completed: how far it is, and what was made of it."""

    id: str
    event_id: str
    source_id: str
    connection_id: str | None
    trigger_key: str
    state: str  # due | leased | waiting | done | dead
    attempt_count: int
    next_at: datetime | None
    finished_at: datetime | None
    problem: dict[str, Any] | None
    made: list[str]


class AgainOut(BaseModel):
    """How many are tried anew."""

    count: int
