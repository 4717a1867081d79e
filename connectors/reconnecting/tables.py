"""Links that let somebody renew one connection."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import Field

from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class ReconnectLink(Owned, table=True):
    """Leave to renew one connection once; its secret is kept as a digest alone."""

    __table_args__ = (Index("ix_reconnect_link_connection", "organization_id", "connection_id"),)

    connection_id: str
    secret_digest: str
    note: str = ""  # for whom it is, in its maker's words
    made_by: str | None = None
    made_by_name: str = ""
    expires_at: datetime = Field(sa_type=Moment)
    revoked_at: datetime | None = Field(default=None, sa_type=Moment)
    opened_at: datetime | None = Field(default=None, sa_type=Moment)
    used_at: datetime | None = Field(default=None, sa_type=Moment)
    # What was entered for another account than before, until the owner says yes or no.
    held_sealed: str | None = None
    held_account: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {id, name}
    decided_at: datetime | None = Field(default=None, sa_type=Moment)


RECONNECT_LINK: Any = ReconnectLink.__table__  # type: ignore[attr-defined]
