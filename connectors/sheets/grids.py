"""Grids: a spreadsheet file read row by row as texts, whatever program wrote it.

Nothing in a file is evaluated: of a formula the value that was last shown is taken, and what looks
like one in a text file stays the text it is. Digits are kept: a cell that is text stays as it is.
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import openpyxl

from kernel.errors import N_, Invalid

MAX_BYTES = 3 << 19  # a request may have 2 MiB, with its form around the file
MAX_UNPACKED = 64 << 20
MAX_PARTS = 400
MAX_ROWS = 100_000
MAX_COLUMNS = 200
MAX_CELL = 5_000
LONGEST_NUMBER = 10**15  # beyond it a spreadsheet program has lost digits already
ZIP = b"PK\x03\x04"
CHARSETS = ("utf-8-sig", "gb18030")
_SAMPLE = 64 << 10
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class Row:
    """One row under the header: its number as people see it, and its cells as texts."""

    number: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A file's header; its rows are read anew each time they are asked for."""

    raw: bytes
    header: tuple[str, ...]
    header_row: int
    charset: str = ""  # of a text file
    delimiter: str = ""

    def rows(self) -> Iterator[Row]:
        """Give the rows under the header that are not empty; raises Invalid for too many."""
        count = 0
        for number, cells in _lines(self.raw, self.charset, self.delimiter):
            if number <= self.header_row or not any(cells):
                continue
            count += 1
            if count > MAX_ROWS:
                raise Invalid(
                    detail=N_("The file has more than %(limit)s rows; please split it"),
                    limit=f"{MAX_ROWS:,}",
                )
            width = len(self.header)
            yield Row(number, (*cells[:width], *("",) * (width - len(cells))))


def read(raw: bytes) -> Grid:
    """Read a file's header; raises Invalid for what is no spreadsheet."""
    if not raw.strip():
        raise Invalid(detail=N_("The file is empty"))
    if len(raw) > MAX_BYTES:
        raise Invalid(detail=N_("The file is larger than 1.5 MB; please split it"))
    if raw.startswith(_OLD_EXCEL):
        raise Invalid(
            detail=N_("This is an old Excel file (.xls) or one with a password; save it as .xlsx")
        )
    charset = delimiter = ""
    if not raw.startswith(ZIP):
        charset = charset_of(raw)
        delimiter = delimiter_of(raw[:_SAMPLE].decode(charset, "replace"))
    for number, cells in _lines(raw, charset, delimiter):
        if any(cells):
            while cells and not cells[-1]:
                cells.pop()
            return Grid(raw, tuple(cells), number, charset, delimiter)
    raise Invalid(detail=N_("The file has no row with the names of its columns"))


def charset_of(raw: bytes) -> str:
    """Return how a text file is written: UTF-8, or what Chinese programs save; raises Invalid."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for charset in CHARSETS:
        try:
            raw.decode(charset)
        except UnicodeDecodeError:
            continue
        if b"\x00" not in raw:
            return charset
    raise Invalid(detail=N_("This is no spreadsheet: send an .xlsx or a .csv file"))


def delimiter_of(text: str) -> str:
    """Return what stands between the cells of a text file: the sign its first line has most of."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",\t;|", key=lambda sign: (first.count(sign), sign == ","))


def _lines(raw: bytes, charset: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    if raw.startswith(ZIP):
        yield from _of_workbook(raw)
        return
    yield from of_text(io.StringIO(raw.decode(charset), newline=""), delimiter)


def of_text(file: Any, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Give the rows of a text file; a cell may hold line breaks inside quotes. Raises Invalid."""
    reader = csv.reader(file, delimiter=delimiter, strict=False)
    try:
        for number, cells in enumerate(reader, start=1):
            yield number, [_bounded(cell) for cell in cells[:MAX_COLUMNS]]
    except csv.Error as broken:
        raise Invalid(
            detail=N_("Row %(number)s cannot be read: a quotation mark is not closed"),
            number=reader.line_num,
        ) from broken


def _bounded(text: str) -> str:
    return text.replace("\x00", "").strip()[:MAX_CELL]


def _of_workbook(raw: bytes) -> Iterator[tuple[int, list[str]]]:
    _check_parts(raw)
    try:
        book = openpyxl.load_workbook(
            io.BytesIO(raw), read_only=True, data_only=True, keep_links=False
        )
    except Exception as broken:  # whatever a broken file makes of its reader
        raise Invalid(detail=N_("The Excel file is damaged and cannot be opened")) from broken
    try:
        sheet = next(iter(book.worksheets), None)
        if sheet is None:
            raise Invalid(detail=N_("The Excel file has no sheet"))
        sheet.reset_dimensions()  # what a file says about its own size is not believed
        rows = sheet.iter_rows(max_col=MAX_COLUMNS, values_only=True)
        for number, values in enumerate(_unbroken(rows), start=1):
            yield number, [cell_text(value) for value in values]
    finally:
        book.close()


def _unbroken(rows: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from rows
    except Invalid:
        raise
    except Exception as broken:
        raise Invalid(detail=N_("The Excel file is damaged and cannot be opened")) from broken


def _check_parts(raw: bytes) -> None:
    """Refuse a file that unpacks to far more than it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            parts = packed.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as broken:
        raise Invalid(detail=N_("The Excel file is damaged and cannot be opened")) from broken
    if len(parts) > MAX_PARTS or sum(one.file_size for one in parts) > MAX_UNPACKED:
        raise Invalid(detail=N_("The Excel file unpacks to too much; please split it"))


def cell_text(value: Any) -> str:
    """Return a cell's value as text, with all the digits that the file holds."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        whole = value.hour == value.minute == value.second == 0
        return value.date().isoformat() if whole else value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        if value.is_integer() and abs(value) < LONGEST_NUMBER:
            return str(int(value))
        return format(Decimal(repr(value)), "f")
    return _bounded(str(value))


def has_lost_digits(text: str) -> bool:
    """Tell whether a number is one of which a spreadsheet program keeps only the first digits."""
    bare = text.lstrip("-")
    return len(bare) > 15 and bare.isdigit() and bare.endswith("0000")
