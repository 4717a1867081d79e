"""Held streams: which connections are listened to, by whom, and how that goes."""

from datetime import datetime
from typing import Any

from sqlmodel import Field

from connectors.tables import partial
from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class HeldStream(Owned, table=True):
    """A stream of an app over a connection; its id is that of the source its events belong to."""

    __table_args__ = (partial("ix_held_stream_due", "next_at", where="state != 'off'"),)

    connection_id: str
    state: str = "waiting"  # waiting | held | off
    # when somebody may take it: at once, after a pause, or when the holder's lease is over
    next_at: datetime = Field(sa_type=Moment)
    lease_owner: str | None = None
    lease_epoch: int = 0
    connected_at: datetime | None = Field(default=None, sa_type=Moment)
    last_at: datetime | None = Field(default=None, sa_type=Moment)  # of the last message
    message_count: int = 0
    failure_count: int = 0
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {cause, say, detail}


HELD_STREAM: Any = HeldStream.__table__  # type: ignore[attr-defined]
