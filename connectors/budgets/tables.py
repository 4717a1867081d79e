"""What stands of each budget: how full it is, who waits for it, which calls are in the air."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field

from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class Allowance(Owned, table=True):
    """One budget of a connection, or of all connections to an app; its id says which."""

    __table_args__ = (Index("ix_allowance_connector", "organization_id", "connector_key"),)

    connector_key: str
    budget_id: str
    scope: str  # the connection's id, a digest of what the app knows us by, or "" for all
    # When the budget is whole again if nothing more goes out: what went out is counted by it.
    full_at: datetime = Field(sa_type=Moment)
    blocked_until: datetime | None = Field(default=None, sa_type=Moment)  # the app said so
    # Where each flow's queue ends: {flow: seconds since 1970}; those that are over are dropped.
    queues: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    # Calls in the air: {holder: [count, seconds since 1970 when its lease ends]}.
    seats: dict[str, Any] = Field(default_factory=dict, sa_type=Document)


ALLOWANCE: Any = Allowance.__table__  # type: ignore[attr-defined]
