"""What leaves about choices."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class ChoiceOut(BaseModel):
    """One thing to choose."""

    value: str | int
    label: str


class ChoicesOut(BaseModel):
    """A page of what there is to choose."""

    items: list[ChoiceOut]
    next_cursor: str | None
    fetched_at: datetime | None
    is_cut: bool  # the app has more than is kept
    problem: dict[str, Any] | None  # why it could not be refreshed: {cause, say, detail}


class LookupOut(BaseModel):
    """A list of choices that a connection's app has."""

    key: str
    title: dict[str, str]
    input: dict[str, Any]  # the JSON Schema of what the choices depend on
    cache_seconds: int
    searches: bool
    confidence: str
