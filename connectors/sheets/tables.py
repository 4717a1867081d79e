"""Uploads: spreadsheets that were sent in, and how far they are."""

from datetime import datetime
from typing import Any

from sqlalchemy import LargeBinary
from sqlmodel import Field

from connectors.tables import partial
from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class SheetUpload(Owned, table=True):
    """A spreadsheet on its way to events; its content goes when it is done or given up."""

    __table_args__ = (
        partial("ix_sheet_upload_due", "next_at", where="state IN ('waiting', 'leased')"),
    )

    name: str  # the file's
    uploaded_by: str
    event_type: str | None = None
    content: bytes | None = Field(default=None, sa_type=LargeBinary)
    header: list[str] = Field(default_factory=list, sa_type=Document)
    columns: dict[str, int] = Field(default_factory=dict, sa_type=Document)
    fixed: dict[str, str] = Field(default_factory=dict, sa_type=Document)
    source_id: str | None = None
    state: str = "draft"  # draft | waiting | leased | done | given_up
    # of events: how many rows were turned into them so far, and what became of them
    done_row: int = 0
    new_count: int = 0
    known_count: int = 0
    bad_count: int = 0
    problems: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)  # the first ones
    next_at: datetime | None = Field(default=None, sa_type=Moment)
    lease_owner: str | None = None
    lease_epoch: int = 0
    ended_at: datetime | None = Field(default=None, sa_type=Moment)


SHEET_UPLOAD: Any = SheetUpload.__table__  # type: ignore[attr-defined]
