"""Rows: many that go in at once, of one table or of several, in one statement where it can be.

A trip to PostgreSQL costs a busy process more than the rows it carries, so what belongs together
goes in one: as arrays, one prepared statement however many rows there are. They go in binary form
(%b): as text every quote in them would be escaped one by one. SQLite, which is no trip
away, gets row by row within one transaction.
"""

import functools
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, SQLModel


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table that all name the same columns; defaults of the model are not applied."""

    table: Any
    rows: Sequence[dict[str, Any]]
    conflict: tuple[str, ...] | None = None  # those that clash on these columns are left out
    of: str | None = None  # the column with the id of the row they belong to


def keeps_others_out(session: Session) -> bool:
    """Tell whether nobody else can write before the session's work ends, as on SQLite."""
    return session.get_bind().dialect.name == "sqlite"


def insert_rows(
    connection: Any,
    table: Any,
    rows: Sequence[dict[str, Any]],
    conflict: tuple[str, ...] | None = None,
) -> list[str]:
    """Insert rows of one table; returns the ids of those that went in."""
    if not rows:
        return []
    if connection.dialect.name == "postgresql":
        return _insert_arrays(connection, [Rows(table, rows, conflict)])
    return _insert_each(connection, Rows(table, rows, conflict))


def insert_ignore(
    session: Session, table: type[SQLModel], rows: Sequence[dict[str, Any]], conflict: Sequence[str]
) -> list[str]:
    """Insert rows of one table, skip those that clash on `conflict`; returns the ids of the others.

    Rows name every required column.
    """
    return insert_rows(session.connection(), table.__table__, rows, tuple(conflict))  # type: ignore[attr-defined]


def insert_together(connection: Any, groups: Sequence[Rows], first: Rows | None = None) -> set[str]:
    """Insert rows of several tables; returns the ids of all that went in.

    With `first`, the others go in only where the row of `first` went in that they belong to.
    """
    filled = [group for group in groups if group.rows]
    if connection.dialect.name == "postgresql":
        every = [first, *filled] if first else [Rows(g.table, g.rows, g.conflict) for g in filled]
        return set(_insert_arrays(connection, every)) if every else set()
    inserted = set(_insert_each(connection, first)) if first else set()
    firsts = frozenset(inserted)
    for group in filled:
        some = _belonging(group, firsts) if first else group
        inserted.update(_insert_each(connection, some))
    return inserted


def change_and_add(
    connection: Any, change: Any, values: Mapping[str, Any], added: Rows
) -> list[tuple[Any, ...]]:
    """Update rows, and insert those that belong (`of`) to one that was found.

    `change` is an update that returns first of all the ids, `values` its parameters. Returns what
    it returns.
    """
    if not added.rows or connection.dialect.name != "postgresql":
        found = [tuple(row) for row in connection.execute(change, dict(values))]
        _insert_each(connection, _belonging(added, {row[0] for row in found}))
        return found
    written = _written(change, connection.dialect)
    words = _change_and_add(written.words, added.table, tuple(added.rows[0]), str(added.of))
    given = written.given(values)
    given |= {f"_{n}": column for n, column in enumerate(_columns(connection, added))}
    return list(connection.exec_driver_sql(words, given))


def _belonging(group: Rows, ids: Collection[str]) -> Rows:
    if group.of is None:
        return group
    rows = [row for row in group.rows if row[group.of] in ids]
    return Rows(group.table, rows, group.conflict, group.of)


def _insert_arrays(connection: Any, groups: Sequence[Rows]) -> list[str]:
    words = _together(tuple((g.table, tuple(g.rows[0]), g.conflict, g.of) for g in groups))
    columns = [column for group in groups for column in _columns(connection, group)]
    return [row[0] for row in connection.exec_driver_sql(words, tuple(columns))]


def _insert_each(connection: Any, group: Rows) -> list[str]:
    if not group.rows:
        return []
    words = _one_by_one(group.table, tuple(group.rows[0]), group.conflict)
    columns = _columns(connection, group)
    cursor = connection.connection.cursor()
    try:
        given = (cursor.execute(words, row).fetchone() for row in zip(*columns, strict=True))
        return [row[0] for row in given if row is not None]
    except sqlite3.Error as error:
        # as SQLAlchemy would say it, so that a full disk is known as an outage
        raise DBAPIError.instance(words, None, error, sqlite3.Error) from error
    finally:
        cursor.close()


def _columns(connection: Any, group: Rows) -> list[list[Any]]:
    """Return the rows' values column by column, as the driver takes them."""
    names = tuple(group.rows[0])
    dialect = connection.dialect
    return [
        [row[name] for row in group.rows]
        if process is None
        else [process(row[name]) for row in group.rows]
        for name, process in zip(
            names, _processors(group.table, names, dialect.name, dialect), strict=True
        )
    ]


_known: dict[tuple[Any, ...], list[Callable[[Any], Any] | None]] = {}


def _processors(
    table: Any, names: tuple[str, ...], dialect_name: str, dialect: Any
) -> list[Callable[[Any], Any] | None]:
    """Return what turns each column's values into the driver's."""
    found = _known.get((table, names, dialect_name))
    if found is None:
        types = [table.c[name].type.dialect_impl(dialect) for name in names]
        found = [one.bind_processor(dialect) for one in types]
        _known[table, names, dialect_name] = found
    return found


# --- words ---------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _ignoring(conflict: tuple[str, ...] | None) -> str:
    return f" ON CONFLICT ({', '.join(conflict)}) DO NOTHING" if conflict else ""


@functools.cache
def _one_by_one(table: Any, names: tuple[str, ...], conflict: tuple[str, ...] | None) -> str:
    marks = ", ".join("?" for _ in names)
    words = f'INSERT INTO "{table.name}" ({_listed(names)}) VALUES ({marks})'  # noqa: S608
    return f"{words}{_ignoring(conflict)} RETURNING id"


def _arrays(table: Any, names: Sequence[str], mark: Callable[[int], str]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = [table.c[name].type.compile(dialect) for name in names]
    return ", ".join(f"{mark(n)}::{kind}[]" for n, kind in enumerate(types))


@functools.cache
def _together(
    groups: tuple[tuple[Any, tuple[str, ...], tuple[str, ...] | None, str | None], ...],
) -> str:
    parts = []
    for table, names, conflict, of in groups:
        belongs = f' WHERE given."{of}" IN (SELECT id FROM part_0)' if of else ""  # noqa: S608
        parts.append(
            f'INSERT INTO "{table.name}" ({_listed(names)})'  # noqa: S608 - our tables' own names
            f" SELECT * FROM unnest({_arrays(table, names, lambda _: '%b')})"
            f" AS given({_listed(names)}){belongs}{_ignoring(conflict)} RETURNING id"
        )
    if len(parts) == 1:
        return parts[0]
    named = ", ".join(f"part_{number} AS ({part})" for number, part in enumerate(parts))
    ids = " UNION ALL ".join(f"SELECT id FROM part_{number}" for number in range(len(parts)))  # noqa: S608
    return f"WITH {named} {ids}"


@functools.cache
def _change_and_add(change: str, table: Any, names: tuple[str, ...], of: str) -> str:
    arrays = _arrays(table, names, lambda n: f"%(_{n})b")
    return (
        f"WITH changed AS ({change}), added AS ("  # noqa: S608 - our tables' own names
        f'INSERT INTO "{table.name}" ({_listed(names)})'
        f" SELECT * FROM unnest({arrays}) AS given({_listed(names)})"
        f' WHERE given."{of}" IN (SELECT id FROM changed)) SELECT * FROM changed'
    )


class _Written:
    """A statement of SQLAlchemy's as the driver takes it."""

    def __init__(self, statement: Any, dialect: Any) -> None:
        compiled = statement.compile(dialect=dialect)
        self.words = str(compiled)
        self._processors = compiled._bind_processors  # noqa: SLF001 - the very ones it would use
        names = compiled.bind_names
        self._own = self._for_driver({n: one.value for one, n in names.items() if not one.required})

    def given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as the driver takes them, with those that stand in the statement."""
        return self._own | self._for_driver(values)

    def _for_driver(self, values: Mapping[str, Any]) -> dict[str, Any]:
        found = self._processors
        return {n: found[n](value) if n in found else value for n, value in values.items()}


_statements: dict[tuple[Any, str], _Written] = {}


def _written(statement: Any, dialect: Any) -> _Written:
    """Write a statement once; it is kept, so it should be one of a module's own."""
    found = _statements.get((statement, dialect.name))
    if found is None:
        found = _statements[statement, dialect.name] = _Written(statement, dialect)
    return found
