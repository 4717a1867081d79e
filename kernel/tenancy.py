"""Tenants: the tables they own, the only ways to read them, PostgreSQL's second wall."""

from typing import Any, Self, TypeVar

from sqlalchemy import Select, select, text
from sqlmodel import Field, Session, SQLModel

from kernel.columns import Table
from kernel.errors import NotFound

M = TypeVar("M", bound="Owned")


class Owned(Table):
    """A row of one organization; its key starts with it, so that a cluster can shard."""

    organization_id: str = Field(primary_key=True, max_length=40)
    id: str = Field(primary_key=True, max_length=40)

    @classmethod
    def of(cls, organization_id: str) -> "Select[Self]":
        """Select this organization's rows."""
        return select(cls).where(cls.organization_id == organization_id)  # type: ignore[arg-type]


def find(session: Session, model: type[M], organization_id: str, row_id: str) -> M:
    """Return the organization's row; a stranger's row is NotFound like one that never was."""
    row = session.get(model, (organization_id, row_id))
    if row is None:
        raise NotFound
    return row


def owned_tables() -> list[str]:
    """Name every tenant table that is imported, sorted."""
    return sorted(
        table.name
        for table in SQLModel.metadata.tables.values()
        if "organization_id" in table.c and table.c.organization_id.primary_key
    )


def role_problems(session: Session) -> list[str]:
    """Say what lets the present PostgreSQL role step over the wall (for `yangfan doctor`)."""
    if session.get_bind().dialect.name != "postgresql":
        return []
    row: Any = session.execute(
        text("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
    ).one()
    found = []
    if row[0]:
        found.append("the database role is a superuser")
    if row[1]:
        found.append("the database role may bypass row-level security")
    return found
