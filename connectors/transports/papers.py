"""Papers: rows written as a spreadsheet file, cells as texts so that no program changes them."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import openpyxl

from connectors.engine.functions import to_text


def written(name: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as .xlsx when the name says so, else as CSV in UTF-8 that Excel recognises."""
    head = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    lines = [head, *([_text(row.get(one)) for one in head] for row in rows)]
    if name.lower().endswith(".xlsx"):
        return _workbook(lines)
    file = io.StringIO(newline="")
    csv.writer(file).writerows(lines)
    return b"\xef\xbb\xbf" + file.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_text(value)


def _workbook(lines: Sequence[Sequence[str]]) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for line in lines:
        cells = []
        for text in line:
            cell = openpyxl.cell.WriteOnlyCell(sheet, value=text)
            cell.data_type, cell.number_format = (
                "s",
                "@",
            )  # never a formula, whatever it begins with
            cells.append(cell)
        sheet.append(cells)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()
