"""Exporting: a collection as CSV, page by page, however large it is."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from sqlmodel import col

from connectors.stores import values
from connectors.stores.tables import StoredValue
from kernel import documents
from kernel.database import reading, store_now

_PAGE = 500
_HEAD = ("key", "value", "updated_at", "expires_at")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(organization_id: str, collection: str, prefix: str = "") -> Iterator[bytes]:
    """Give a collection's lines in the order of their keys; each page is read by itself."""
    yield "\ufeff".encode() + _line([_HEAD])  # spreadsheets then read it as UTF-8
    after: str | None = None
    while True:
        with reading(organization_id) as session:
            chosen = values.select_values(organization_id, collection, prefix)
            chosen = chosen.where(values.is_alive(store_now(session)))
            if after is not None:
                chosen = chosen.where(col(StoredValue.key) > after)
            rows = session.execute(chosen.order_by(col(StoredValue.key)).limit(_PAGE)).scalars()
            found = [(row.key, row.value, row.updated_at, row.expires_at) for row in rows]
        if found:
            yield _line([tuple(_cell(one) for one in row) for row in found])
            after = found[-1][0]
        if len(found) < _PAGE:
            return


def _line(rows: list[Any]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    text = value if isinstance(value, str) else documents.dump(value).decode()
    is_formula = isinstance(value, str) and text.startswith(_FORMULA)
    return f"'{text}" if is_formula else text
