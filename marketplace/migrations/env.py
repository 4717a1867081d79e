"""Alembic's entry: always handed an open connection by marketplace.migrating."""

from alembic import context
from sqlmodel import SQLModel

import marketplace.app  # noqa: F401 - fills the metadata


def _render(kind, value, _autogen):
    """Write our column types by their own names."""
    if kind == "type" and type(value).__module__ == "kernel.database":
        return f"database.{type(value).__name__}()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    render_item=_render,
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
