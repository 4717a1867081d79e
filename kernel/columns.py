"""Columns both databases understand alike: moments, documents, "one of these" conditions."""

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, Boolean, DateTime, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import declared_attr
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from kernel import clock, documents


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Refuse naive times; SQLite stores them without their zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a Moment needs a time zone")
        try:
            value = value.astimezone(UTC)
        except OverflowError:  # the first or the last day of all, said in another zone
            value = value.replace(tzinfo=UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _dialect: Any) -> datetime | None:
        """Give SQLite's times their zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Document(TypeDecorator[Any]):
    """A JSON value kept as text, so that long ids and decimals come back as they went in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> str | None:
        """Write the value as compact JSON."""
        return None if value is None else documents.dump(value).decode()

    def process_result_value(self, value: str | None, _dialect: Any) -> Any:
        """Read the JSON back, fractions as Decimal."""
        if value is None:
            return None
        return documents.parse(value.encode(), max_bytes=1 << 28, max_depth=200)


class _Texts(TypeDecorator[Any]):
    """A list of texts as one parameter: an array, or on SQLite a JSON list."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(ARRAY(Text) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        chosen = list(value)
        return chosen if dialect.name == "postgresql" else documents.dump(chosen).decode()


class one_of(FunctionElement[bool]):  # noqa: N801 - reads as a condition
    """`one_of(column, "ids")`: the column is one of the texts given as parameter `ids`.

    Unlike `in_`, the statement is the same for one text and for a thousand, so that it can be
    built once, and both databases can keep it prepared.
    """

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: Any, name: str) -> None:
        """Compare `column` with the execution's parameter `name`."""
        super().__init__(column, bindparam(name, type_=_Texts()))

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002
        """Stay as it is: SQLite would be asked whether it `= 1`, and then read the whole table."""
        return self


@compiles(one_of)
def _write_one_of(element: Any, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in element.clauses)
    if compiler.dialect.name == "postgresql":
        return f"{column} = ANY({values})"
    return f"{column} IN (SELECT CAST(value AS TEXT) FROM json_each({values}))"  # noqa: S608


class Table(SQLModel):
    """What every table has: a snake_case name and the moment its row was made."""

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805
        """Turn `LoginSession` into `login_session`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    created_at: datetime = Field(default_factory=clock.now, sa_type=Moment, nullable=False)
