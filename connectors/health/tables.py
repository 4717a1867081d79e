"""How calls to connections went, hour by hour, and the links that let somebody reconnect one."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field

from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class ConnectionHour(Owned, table=True):
    """What became of the calls over one connection within one hour."""

    __table_args__ = (Index("ix_connection_hour", "organization_id", "connection_id", "hour"),)

    connection_id: str
    hour: datetime = Field(sa_type=Moment)
    ok: int = 0
    failed: int = 0  # answered with a refusal, or not at all
    refused: int = 0  # of these: the app asked for a slower pace
    waited: int = 0  # were held back here, by a budget
    causes: dict[str, Any] = Field(default_factory=dict, sa_type=Document)  # {cause: count}
    elapsed_ms: int = 0  # of all that were answered, together
    slowest_ms: int = 0
    last_ok_at: datetime | None = Field(default=None, sa_type=Moment)
    last_failed_at: datetime | None = Field(default=None, sa_type=Moment)
    last_problem: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {cause, say}


CONNECTION_HOUR: Any = ConnectionHour.__table__  # type: ignore[attr-defined]
