"""What may be chosen: vendors, apps, releases, listings, bundles; and one tenant's event types."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, Text, UniqueConstraint, text
from sqlmodel import Field

from kernel.columns import Document, Moment, Table
from kernel.ids import new_id
from kernel.tenancy import Owned

VENDOR_STATES = ("applied", "verified", "rejected", "suspended", "community")
RELEASE_STATES = ("in_review", "approved", "rejected", "published", "withdrawn")
LISTING_STATES = ("published", "unpublished")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Vendor(Table, table=True):
    """Who stands behind an App: an Organization that may publish, or an open-source community."""

    __table_args__ = (CheckConstraint(_one_of("state", VENDOR_STATES), name="vendor_state_known"),)

    id: str = Field(primary_key=True, default_factory=lambda: new_id("ven"), max_length=40)
    organization_id: str | None = Field(
        default=None, foreign_key="organization.id", unique=True, max_length=40
    )
    key: str = Field(unique=True, max_length=60)
    name: dict[str, str] = Field(sa_type=Document)
    about: dict[str, str] | None = Field(default=None, sa_type=Document)
    homepage: str | None = Field(default=None, max_length=2000)
    contact_email: str | None = Field(default=None, max_length=254)
    credit_code: str | None = Field(default=None, max_length=40)
    state: str = Field(default="applied", max_length=20)
    reason: str | None = Field(default=None, sa_type=Text)
    decided_by: str | None = Field(default=None, max_length=40)
    decided_at: datetime | None = Field(default=None, sa_type=Moment)


class App(Table, table=True):
    """A product, registered against Slots; `facts` keeps what is known of it and how surely."""

    id: str = Field(primary_key=True, default_factory=lambda: new_id("app"), max_length=40)
    vendor_id: str = Field(foreign_key="vendor.id", index=True, max_length=40)
    key: str = Field(unique=True, max_length=60)
    name: dict[str, str] = Field(sa_type=Document)
    layer: str = Field(max_length=20)
    slots: list[str] = Field(sa_type=Document)
    sub_scenarios: list[str] = Field(sa_type=Document)
    # "catalogue" = described by the hub itself, "vendor" = registered by its maker
    origin: str = Field(default="vendor", max_length=20)
    is_demo: bool = False
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=Document)
    # of the catalogue entry this row was filled from, so that a second seeding writes nothing
    digest: str | None = Field(default=None, max_length=64)


class Release(Table, table=True):
    """An immutable version of an App: its manifest as sent, as read, and what review said."""

    __table_args__ = (
        CheckConstraint(_one_of("state", RELEASE_STATES), name="release_state_known"),
        # a refused version may be sent again, any other version number is spent
        Index(
            "uq_release_version",
            "app_id",
            "version",
            unique=True,
            sqlite_where=text("state <> 'rejected'"),
            postgresql_where=text("state <> 'rejected'"),
        ),
        Index("ix_release_state", "state", "id"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("rel"), max_length=40)
    app_id: str = Field(foreign_key="app.id", index=True, max_length=40)
    vendor_id: str = Field(foreign_key="vendor.id", index=True, max_length=40)
    version: str = Field(max_length=60)
    manifest: dict[str, Any] = Field(sa_type=Document)
    source_text: str = Field(sa_type=Text)
    digest: str = Field(max_length=64)
    state: str = Field(default="in_review", max_length=20)
    findings: list[dict[str, Any]] = Field(default_factory=list, sa_type=Document)
    reason: str | None = Field(default=None, sa_type=Text)
    submitted_by: str | None = Field(default=None, max_length=40)
    decided_by: str | None = Field(default=None, max_length=40)
    decided_at: datetime | None = Field(default=None, sa_type=Moment)
    published_at: datetime | None = Field(default=None, sa_type=Moment)


class Listing(Table, table=True):
    """An App's shelf page: what shoppers read, filter by and search in."""

    __table_args__ = (
        CheckConstraint(_one_of("state", LISTING_STATES), name="listing_state_known"),
    )

    id: str = Field(primary_key=True, default_factory=lambda: new_id("lst"), max_length=40)
    app_id: str = Field(foreign_key="app.id", unique=True, max_length=40)
    # None: the hub describes the app, but nobody has published a Release of it here
    release_id: str | None = Field(default=None, foreign_key="release.id", max_length=40)
    state: str = Field(default="published", max_length=20)
    tagline: dict[str, str] = Field(sa_type=Document)
    description: dict[str, str] | None = Field(default=None, sa_type=Document)
    facets: dict[str, Any] = Field(sa_type=Document)
    # search tokens between blanks, best place first
    search_name: str = Field(default="", sa_type=Text)
    search_tagline: str = Field(default="", sa_type=Text)
    search_body: str = Field(default="", sa_type=Text)


class Bundle(Table, table=True):
    """Apps for several Slots and the Flows that join them, offered together."""

    id: str = Field(primary_key=True, default_factory=lambda: new_id("bun"), max_length=40)
    key: str = Field(unique=True, max_length=60)
    name: dict[str, str] = Field(sa_type=Document)
    story: dict[str, str] = Field(sa_type=Document)
    # [{app, slots, use {zh, en}}], the Apps by key
    items: list[dict[str, Any]] = Field(sa_type=Document)
    # flows, roles, replaces, hours, costs
    plan: dict[str, Any] = Field(sa_type=Document)
    flow_template: str | None = Field(default=None, max_length=80)
    position: int = 0
    is_base: bool = False
    is_demo: bool = False
    digest: str | None = Field(default=None, max_length=64)


class CustomEventType(Owned, table=True):
    """An Organization's own event type; a version never changes once it is written."""

    __table_args__ = (UniqueConstraint("organization_id", "name", "version"),)

    id: str = Field(primary_key=True, default_factory=lambda: new_id("cet"), max_length=40)
    name: str = Field(max_length=120)
    version: int
    title: dict[str, str] = Field(sa_type=Document)
    json_schema: dict[str, Any] = Field(sa_type=Document)
    sample: Any = Field(default=None, sa_type=Document, nullable=True)
    natural_key: list[str] = Field(default_factory=list, sa_type=Document)
    retired_at: datetime | None = Field(default=None, sa_type=Moment)
