"""Webhooks that the hub has ordered from apps."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field

from connectors.tables import partial
from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class VendorHook(Owned, table=True):
    """One webhook at an app, for one source; its id is the source's."""

    __table_args__ = (
        partial("ix_vendor_hook_next", "next_at", where="next_at IS NOT NULL"),
        Index("ix_vendor_hook_connection", "organization_id", "connection_id"),
    )

    connection_id: str
    connector_key: str
    trigger_key: str
    input: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    # wanted: shall be there | active: is there | leaving: shall be gone | gone | stuck: a person
    state: str = "wanted"
    remote_id: str | None = None  # the app's own name for it
    expires_at: datetime | None = Field(default=None, sa_type=Moment)
    next_at: datetime | None = Field(default=None, sa_type=Moment)
    looked_at: datetime | None = Field(default=None, sa_type=Moment)  # the app's list was read
    failure_count: int = 0
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {cause, say, detail}
    ledger: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)  # [{at, did}]
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=Moment)


VENDOR_HOOK: Any = VendorHook.__table__  # type: ignore[attr-defined]
