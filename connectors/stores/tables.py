"""What flows keep: values by collection and key, and how much an organization has kept."""

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from connectors.tables import partial
from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class StoredValue(Owned, table=True):
    """A value that a flow keeps under a key of a collection."""

    __table_args__ = (
        UniqueConstraint("organization_id", "collection", "key", name="uq_stored_value_key"),
        partial("ix_stored_value_expiry", "expires_at", where="expires_at IS NOT NULL"),
    )

    collection: str
    key: str
    value: Any = Field(default=None, sa_type=Document, nullable=True)
    size: int  # bytes of the value as compact JSON
    expires_at: datetime | None = Field(default=None, sa_type=Moment)
    updated_at: datetime = Field(sa_type=Moment)
    updated_by: str | None = None  # the run, or the person


class StoreUse(Owned, table=True):
    """How much an organization keeps; its id is the organization's. Whoever changes locks it."""

    value_count: int = 0
    byte_count: int = 0


STORED: Any = StoredValue.__table__  # type: ignore[attr-defined]
STORE_USE: Any = StoreUse.__table__  # type: ignore[attr-defined]
