"""The table of lookups: lists of choices as an app last gave them."""

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from kernel.columns import Document, Moment
from kernel.tenancy import Owned


class ChoiceList(Owned, table=True):
    """What one connection's app had to choose from, for one lookup and what it depends on."""

    __table_args__ = (
        UniqueConstraint(
            "organization_id", "connection_id", "key", "digest", name="uq_choice_list_of"
        ),
    )

    connection_id: str
    key: str  # of the lookup in the manifest
    digest: str  # of what it depends on, and of the connector's edition
    options: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)  # value, label
    is_cut: bool = False  # the app had more
    fetched_at: datetime = Field(sa_type=Moment)
    expires_at: datetime = Field(sa_type=Moment)
    # why the last try to refresh it failed; the options are those from before: {cause, say, detail}
    problem: dict[str, Any] | None = Field(default=None, sa_type=Document)


CHOICE_LIST: Any = ChoiceList.__table__  # type: ignore[attr-defined]
