"""What the JSON API of spreadsheets takes and gives."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SheetIn(BaseModel):
    """A spreadsheet that is sent in."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    content_base64: str = Field(min_length=1, max_length=2_000_000)
    event_type: str | None = Field(default=None, max_length=200)


class SheetColumnsIn(BaseModel):
    """Which column (counted from 0) fills which field, and what is the same in all rows."""

    model_config = ConfigDict(extra="forbid")

    columns: dict[str, int] = Field(default_factory=dict, max_length=200)
    fixed: dict[str, str] = Field(default_factory=dict, max_length=200)


class SheetOut(BaseModel):
    """A spreadsheet: how its columns are matched, how far it is, and what came of it."""

    id: str
    name: str
    state: str
    event_type: str | None
    header: list[str]
    columns: dict[str, int]
    fixed: dict[str, str]
    missing: list[str] = Field(default_factory=list, description="Fields that nothing fills yet")
    events: int | None = Field(default=None, description="What it would bring, of a draft")
    done_row: int
    new_count: int
    known_count: int
    bad_count: int
    problems: list[dict[str, Any]]
    created_at: datetime
    ended_at: datetime | None
