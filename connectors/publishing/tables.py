"""Versions of the connectors that vendors publish."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, text
from sqlmodel import Field

from connectors.tables import partial
from kernel.columns import Document, Moment, Table

# checking: waits for the machine or is being looked at by it | failed, checked: what it said
# in_review | rejected | published | deprecated: works, and something better is there
# withdrawn: nobody can connect it anew | recalled: by an operator; it works no more
STATES = (
    "checking", "failed", "checked", "in_review", "rejected", "published", "deprecated",
    "withdrawn", "recalled",
)  # fmt: skip
OPEN = ("checking", "failed", "checked", "rejected")  # may still be changed by its vendor
OFFERED = ("published", "deprecated")
WORKING = (*OFFERED, "withdrawn")
_SPENT = "state NOT IN ('checking', 'failed', 'checked', 'rejected')"


class ConnectorEdition(Table, table=True):
    """One version of a vendor's connector: its folder as sent, and what was said of it.

    The folder never changes once it is sent to review.
    """

    __table_args__ = (
        CheckConstraint(f"state IN {STATES!r}", name="connector_edition_state_known"),
        Index(
            "uq_connector_edition_version",
            "vendor_id",
            "name",
            "version",
            unique=True,
            sqlite_where=text(_SPENT),
            postgresql_where=text(_SPENT),
        ),
        Index("ix_connector_edition_vendor", "vendor_id", "id"),
        Index("ix_connector_edition_state", "state", "id"),
        partial("ix_connector_edition_next", "next_at", where="next_at IS NOT NULL"),
    )

    id: str = Field(primary_key=True, max_length=40)
    vendor_id: str = Field(foreign_key="vendor.id", max_length=40)
    vendor_key: str = Field(max_length=60)
    name: str = Field(max_length=60)  # the manifest's key; "" while it cannot be read
    version: str = Field(default="", max_length=40)
    title: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    summary: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    slots: list[str] = Field(default_factory=list, sa_type=Document)
    archive: bytes = Field(sa_type=LargeBinary)  # a zip of its files, as packed by the hub
    digest: str = Field(max_length=80)  # of that
    state: str = Field(default="checking", max_length=20)
    # What the machine did: {done, of, passed, failed, failures: [{name, findings}], took_ms}
    trial: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    findings: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)
    # What it may do: {hosts, settings_hosts, effects, secrets, actions, triggers}
    reach: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    compared_to: str | None = Field(default=None, max_length=40)  # the version published before
    changes: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)
    is_allowed: bool = True  # whether the version's number allows for the changes
    reason: str | None = None  # a reviewer's words, or why it was withdrawn or recalled
    submitted_by: str | None = Field(default=None, max_length=40)
    decided_by: str | None = Field(default=None, max_length=40)
    decided_at: datetime | None = Field(default=None, sa_type=Moment)
    published_at: datetime | None = Field(default=None, sa_type=Moment)
    next_at: datetime | None = Field(default=None, sa_type=Moment)  # of the check
    lease_owner: str | None = Field(default=None, max_length=40)
    lease_until: datetime | None = Field(default=None, sa_type=Moment)
    try_count: int = 0  # checks that were begun


# The table for statements: to a type checker the attributes above are plain values.
EDITION: Any = ConnectorEdition.__table__  # type: ignore[attr-defined]
