"""The table of completions: what is still to be made of an event that came in."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field

from kernel.columns import Document, Moment
from kernel.tenancy import Owned


def _partial(name: str, *columns: str, where: str) -> Index:
    condition = text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


class Completion(Owned, table=True):
    """One event of which further events are made: fetched whole, or in the hub's own words."""

    __table_args__ = (
        UniqueConstraint("organization_id", "event_id", name="uq_completion_event"),
        _partial("ix_completion_next", "next_at", where="state IN ('due', 'waiting')"),
        _partial("ix_completion_leased", "lease_until", where="state = 'leased'"),
        _partial(
            "ix_completion_lane",
            "organization_id",
            "lane",
            "event_id",
            where="state IN ('due', 'waiting', 'leased')",
        ),
        Index("ix_completion_state", "organization_id", "state", "id"),
        Index("ix_completion_source", "organization_id", "source_id", "id"),
    )

    event_id: str
    source_id: str
    connection_id: str | None = None  # over which the app is asked
    connector_key: str
    trigger_key: str
    lane: str  # events of one lane are completed one after another: the source and the subject
    state: str = "due"  # due | leased | waiting | done | dead
    next_at: datetime | None = Field(default=None, sa_type=Moment)
    attempt_count: int = 0
    crash_count: int = 0
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=Moment)
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)  # {cause, say, detail}
    made: list[str] = Field(default_factory=list, sa_type=Document)  # ids of the events made
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


COMPLETION: Any = Completion.__table__  # type: ignore[attr-defined]
