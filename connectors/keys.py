"""Rows by their keys: one condition for many (organization, id) pairs that both databases index."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, and_
from sqlmodel import col

from kernel.tenancy import Owned

Key = tuple[str, str]


def among(model: type[Owned], keys: Collection[Key], id_column: Any = None) -> ColumnElement[bool]:
    """Return the condition for the rows of these keys; `id_column` is the model's id by default.

    Ids are unique over all organizations, so two lists say the same as a list of pairs, for which
    SQLite would read the whole table.
    """
    owners = sorted({owner for owner, _ in keys})
    ids = sorted({row_id for _, row_id in keys})
    column = col(model.id) if id_column is None else id_column
    return and_(col(model.organization_id).in_(owners), column.in_(ids))
