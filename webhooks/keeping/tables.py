"""The tables of how long data is kept and where it goes, all tenant-owned: RetentionRule, Keeping,
ArchiveChunk, DataExport, Erasure.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from kernel.columns import Document, Moment
from kernel.tenancy import Owned
from webhooks.tables import partial


class RetentionRule(Owned, table=True):
    """How long events of some types are kept; where no rule fits, the house's own numbers hold."""

    __table_args__ = (
        UniqueConstraint("organization_id", "event_types", name="uq_retention_rule_types"),
    )

    event_types: str  # a name, order.* or *
    live_days: int
    rejected_days: int
    archive_days: int  # 0: not archived but deleted
    detail_days: int | None = None  # of `*` alone: what attempts sent and got


class Keeping(Owned, table=True):
    """Who keeps an organization's data in order, and when next; its id is the organization's."""

    __table_args__ = (
        Index("ix_keeping_next", "next_at"),
        partial("ix_keeping_trouble", "trouble", where="trouble IS NOT NULL"),
    )

    next_at: datetime = Field(sa_type=Moment)
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=Moment)
    passed_id: str = ""  # how far the present pass over the events has come; "": none is under way
    detail_id: str = ""  # the attempts up to here have lost their details
    moved: int = 0  # events that left the live list in the present or last pass
    finished_at: datetime | None = Field(default=None, sa_type=Moment)  # of the last whole pass
    trouble: str | None = None  # disk_full | folder | not_verified | failed
    trouble_since: datetime | None = Field(default=None, sa_type=Moment)


class ArchiveChunk(Owned, table=True):
    """One file of the archive: finished events of one day that one rule holds for."""

    __table_args__ = (Index("ix_archive_chunk_day", "organization_id", "day", "id"),)

    day: str  # 2026-08-29, as people here count days
    event_types: str  # of the rule
    from_at: datetime = Field(sa_type=Moment)  # when the first and the last of them came in
    until_at: datetime = Field(sa_type=Moment)
    from_id: str
    until_id: str
    event_count: int
    delivery_count: int
    run_count: int
    byte_count: int = Field(sa_type=BigInteger)  # of the file
    types: list[str] = Field(default_factory=list, sa_type=Document)  # that are in it
    digest: str  # SHA-256 of the file
    key: str  # its name in the store


class DataExport(Owned, table=True):
    """A file with events that somebody asked for."""

    __table_args__ = (
        partial(
            "ix_data_export_open", "organization_id", "id", where="state IN ('queued', 'running')"
        ),
    )

    from_at: datetime = Field(sa_type=Moment)
    until_at: datetime = Field(sa_type=Moment)
    event_types: str  # a name, order.* or *
    requested_by: str | None = None
    requested_by_name: str = ""
    state: str = "queued"  # queued | running | done | failed | cancelled | expired
    stage: str = ""  # events | deliveries | runs
    event_count: int = 0
    delivery_count: int = 0
    run_count: int = 0
    byte_count: int = Field(default=0, sa_type=BigInteger)
    digest: str | None = None  # SHA-256 of the .zip
    key: str | None = None  # its name in the store
    problem: str | None = None
    finished_at: datetime | None = Field(default=None, sa_type=Moment)
    expires_at: datetime | None = Field(default=None, sa_type=Moment)


class Erasure(Owned, table=True):
    """A person's wish that what is known of them goes, and the receipt for it."""

    __table_args__ = (
        partial("ix_erasure_open", "organization_id", "id", where="state IN ('queued', 'running')"),
    )

    kind: str  # subject | event
    value_sealed: str | None = None  # gone with the rest; the mark tells later what it was
    value_mark: str
    requested_by: str | None = None
    requested_by_name: str = ""
    state: str = "queued"  # queued | running | done | refused | failed
    moving: list[str] = Field(default_factory=list, sa_type=Document)  # event ids of a refusal
    live_events: int = 0
    archived_events: int = 0
    deliveries: int = 0
    runs: int = 0
    chunks_rewritten: int = 0
    exports_deleted: int = 0
    problem: str | None = None
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


# The tables for statements: to a type checker the attributes above are plain values.
RETENTION_RULE: Any = RetentionRule.__table__  # type: ignore[attr-defined]
KEEPING: Any = Keeping.__table__  # type: ignore[attr-defined]
ARCHIVE_CHUNK: Any = ArchiveChunk.__table__  # type: ignore[attr-defined]
DATA_EXPORT: Any = DataExport.__table__  # type: ignore[attr-defined]
ERASURE: Any = Erasure.__table__  # type: ignore[attr-defined]
