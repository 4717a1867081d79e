"""The table of drifts: one row for each way in which an app departs from its connector."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from kernel.columns import Moment
from kernel.tenancy import Owned


class Drift(Owned, table=True):
    """One departure: where, of what kind, how often, since when."""

    __table_args__ = (
        UniqueConstraint(
            "organization_id",
            "connection_id",
            "part",
            "part_key",
            "kind",
            "path",
            name="uq_drift_place",
        ),
        Index("ix_drift_connection", "organization_id", "connection_id", "last_at"),
    )

    connection_id: str
    part: str  # action | trigger
    part_key: str
    kind: str  # new | missing | other | code
    path: str  # a JSON pointer, every place of a list as *
    wanted: str = ""  # what the schema says, in a few words
    example: str = ""  # what came instead, masked
    count: int = 0
    first_at: datetime = Field(sa_type=Moment)
    last_at: datetime = Field(sa_type=Moment)


class DriftReport(Owned, table=True):
    """When an organization was last told that a connection drifts; its id is the connection's."""

    told_at: datetime = Field(sa_type=Moment)
    told_count: int = 0


DRIFT: Any = Drift.__table__  # type: ignore[attr-defined]
DRIFT_REPORT: Any = DriftReport.__table__  # type: ignore[attr-defined]
