"""What runs wait for: types of events that flows await, who waits, and what has arrived."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from connectors.tables import partial
from kernel.columns import Moment
from kernel.tenancy import Owned


class AwaitedType(Owned, table=True):
    """A flow has a step that waits for events of a type, told apart by the value at a path."""

    __table_args__ = (
        UniqueConstraint(
            "organization_id", "event_type", "path", "flow_id", name="uq_awaited_type"
        ),
    )

    flow_id: str
    event_type: str
    path: str  # "data.order_no"


class EventWait(Owned, table=True):
    """A run waits at a step until an event comes whose correlation has this hash."""

    __table_args__ = (
        Index("ix_event_wait_match", "organization_id", "match_hash", "id"),
        Index("ix_event_wait_run", "organization_id", "run_id"),
    )

    flow_id: str
    run_id: str
    position: int  # of the step in the run, as in Step
    event_type: str
    match_hash: str
    until: datetime = Field(sa_type=Moment)


class EventArrival(Owned, table=True):
    """An event that somebody may wait for, or will; it goes when its event goes."""

    __table_args__ = (
        Index("ix_event_arrival_match", "organization_id", "match_hash", "event_id"),
        Index("ix_event_arrival_event", "organization_id", "event_id"),
        partial("ix_event_arrival_new", "created_at", where="state = 'new'"),
    )

    event_id: str
    event_type: str
    match_hash: str
    state: str = "new"  # new | told: whoever waited has been woken


# The tables for statements: to a type checker the attributes above are plain values.
AWAITED: Any = AwaitedType.__table__  # type: ignore[attr-defined]
WAIT: Any = EventWait.__table__  # type: ignore[attr-defined]
ARRIVAL: Any = EventArrival.__table__  # type: ignore[attr-defined]
