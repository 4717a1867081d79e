"""Names that the hub gave: kept in both languages, read in the reader's.

What a person typed is kept as it was typed.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session

from kernel import documents
from kernel.errors import Problem
from kernel.web import localized

_MARK = '{"zh":'


class Name(TypeDecorator[str]):
    """A text, or {zh, en} of which the reader gets the one they read; Chinese without a reader."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> str | None:
        """Write both languages as one text."""
        if not isinstance(value, Mapping):
            return None if value is None else str(value)
        words = {tongue: str(value.get(tongue) or "") for tongue in ("zh", "en")}
        return documents.dump(words).decode()

    def process_result_value(self, value: str | None, _dialect: Any) -> str | None:
        """Give the reader's language back."""
        if value is None or not value.startswith(_MARK):
            return value
        try:
            return localized(documents.parse(value.encode()))
        except Problem:
            return value  # somebody typed what only looks like it


def read_back(session: Session, row: Any) -> None:
    """Let a new row have its name as its reader sees it."""
    if isinstance(row.name, Mapping):
        session.flush()
        session.refresh(row, ["name"])
