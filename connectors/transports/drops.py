"""Drops: files that somebody leaves in a folder, read row by row, some at a time.

Where the next page begins is a text of the hub's own: the file as it was, the place in it, the row.
A page asked for again after a crash gives the same rows with the same ids. A file is moved aside
when the page after its last one is asked for: by then all its rows are committed.
"""

import codecs
import csv
import hashlib
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from catalog import event_types
from connectors.sheets import grids, matching, rows
from connectors.sheets.fields import of_schema
from connectors.sheets.grids import Row
from connectors.sheets.rows import Made, Plan
from kernel.errors import Problem

CHUNK = 256 << 10
MAX_RECORD = 1 << 20
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}
RAW, REJECTED = "row.received", "row.rejected"


class BadFile(Exception):  # noqa: N818 - it says what the file is
    """A file that cannot be read as rows; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file in a folder."""

    name: str
    size: int
    modified: int

    @property
    def identity(self) -> str:
        """Return what tells this file from a later one of the same name."""
        said = f"{self.name}:{self.size}:{self.modified}"
        return said if len(said) < 150 else hashlib.sha256(said.encode()).hexdigest()


class Files(Protocol):
    """What reading needs of a folder's server."""

    def names(self, folder: str, pattern: str, stable_seconds: int) -> list[Found]: ...

    def open(self, path: str) -> Any: ...

    def move_aside(self, folder: str, name: str, aside: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Place:
    """Where reading goes on: a file as it was, a byte in it, the number of the next row."""

    file: Found
    offset: int = 0
    row: int = 0
    is_over: bool = False

    def text(self) -> str:
        one = self.file
        parts = [one.name, one.size, one.modified, self.offset, self.row, int(self.is_over)]
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def of(cls, text: str | None) -> "_Place | None":
        if not text:
            return None
        name, size, modified, offset, row, is_over = json.loads(text)
        return cls(Found(name, size, modified), offset, row, bool(is_over))


def page(files: Files, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the next rows of a folder's files: {items, next, token}."""
    place, token = _Place.of(asked.get("page")), asked.get("token") or ""
    keeps = asked.get("when_done") == "keep"
    if place is not None and place.is_over:
        if not keeps:
            files.move_aside(asked["folder"], place.file.name, asked.get("aside") or "done")
        token, place = place.file.name, None
    stable = 0 if place is not None else asked.get("stable_seconds", 3)
    found = files.names(asked["folder"], asked.get("pattern") or "*.csv", stable)
    if place is not None and place.file not in found:
        place = None  # it was changed or taken away meanwhile: begin again with what is there
    if place is None:
        rest = [one for one in found if not keeps or one.name > token]
        if not rest:
            return {"items": [], "next": None, "token": token or None}
        place = _Place(rest[0])
    items, following = _read(files, asked, place)
    return {"items": items, "next": following.text(), "token": token or None}


def _read(
    files: Files, asked: Mapping[str, Any], place: _Place
) -> tuple[list[dict[str, Any]], _Place]:
    """Return the events of some rows, and where the rows after them begin."""
    limit = asked.get("limit", 500)
    try:
        with files.open(posixpath.join(asked["folder"], place.file.name)) as opened:
            if place.file.name.lower().endswith(".xlsx"):
                header, lines = _of_workbook(opened, place)
            else:
                header, lines = _of_text(opened, asked, place)
            taken: list[tuple[int, Row]] = []
            end = place.file.size
            is_over = True
            for offset, row in lines:
                if len(taken) >= limit:
                    end, is_over = offset, False
                    break
                taken.append((offset, row))
    except Problem as problem:
        raise BadFile(f"{place.file.name}: {problem.plain()}") from problem
    except csv.Error as broken:
        raise BadFile(f"{place.file.name}: {broken}") from broken
    plan = _plan(asked, header)
    made = list(rows.made(plan, (row for _, row in taken))) if plan else []
    if plan and not is_over and len(made) > 1:
        # the last one may go on in the rows that were not read
        cut = made.pop().first_row
        end = next(offset for offset, row in taken if row.number == cut)
        taken = [one for one in taken if one[1].number < cut]
    number = taken[-1][1].number if taken else place.row
    following = _Place(place.file, end, number, is_over)
    if plan:
        return [_typed(place.file, plan, one, header, taken) for one in made], following
    return [_raw(place.file, header, row) for _, row in taken], following


def _plan(asked: Mapping[str, Any], header: Sequence[str]) -> Plan | None:
    name = asked.get("event_type")
    if not name:
        return None
    found = event_types.lookup(None, None, name)
    if found is None:
        raise BadFile(f"there is no event type {name}")
    columns = matching.match(header, of_schema(found.schema))
    named = {text: at for at, text in enumerate(header)}
    fixed: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in str(asked.get("columns") or "").split(";"))):
        field, _, said = part.partition("=")
        if said.startswith("'"):
            fixed[field.strip()] = said.strip("'")
        elif said.strip() in named:
            columns[field.strip()] = named[said.strip()]
        else:
            raise BadFile(f"there is no column {said.strip()}")
    plan = Plan.of(found, columns, fixed)
    missing = plan.missing()
    if missing:
        raise BadFile(f"no column fills {missing[0].name} of {name}")
    return plan


def _typed(
    file: Found, plan: Plan, one: Made, header: Sequence[str], taken: Sequence[tuple[int, Row]]
) -> dict[str, Any]:
    if not one.wrong:
        return {"id": one.key, "type": plan.event_type.name, "data": one.data}
    row = next(row for _, row in taken if row.number == one.first_row)
    problems = [
        {"row": bad.row, "field": bad.field, "text": bad.text, "say": dict(bad.say)}
        for bad in one.wrong[:20]
    ]
    told = _raw(file, header, row)
    data = {**told["data"], "event_type": plan.event_type.name, "problems": problems}
    return {"id": f"{told['id']}:rejected", "type": REJECTED, "data": data}


def _raw(file: Found, header: Sequence[str], row: Row) -> dict[str, Any]:
    values = dict(zip(header, row.cells, strict=False))
    data = {"file": file.name, "row": row.number, "values": values}
    return {"id": f"{file.identity}:{row.number}", "type": RAW, "data": data}


def _of_workbook(opened: Any, place: _Place) -> tuple[Sequence[str], Iterator[tuple[int, Row]]]:
    grid = grids.read(opened.read(grids.MAX_BYTES + 1))
    return grid.header, ((0, row) for row in grid.rows() if row.number > place.row)


def _of_text(
    opened: Any, asked: Mapping[str, Any], place: _Place
) -> tuple[Sequence[str], Iterator[tuple[int, Row]]]:
    """Read a text file from a byte on; its header is read anew, which costs one record."""
    stated = asked.get("encoding") or ""
    first = _records(opened, 0)
    at, raw = next(((at, raw) for at, raw in first if raw.strip()), (0, b""))
    if not raw.strip():
        raise BadFile(f"{place.file.name} has no row with the names of its columns")
    if raw.startswith(codecs.BOM_UTF8):
        raw = raw.removeprefix(codecs.BOM_UTF8)
    text = _decoded(raw, stated)
    sign = DELIMITERS.get(asked.get("delimiter") or "") or grids.delimiter_of(text)
    header = _cells(text, sign)
    begin = place.offset or at + len(raw) + (3 if at == 0 and _has_mark(opened) else 0)

    def lines() -> Iterator[tuple[int, Row]]:
        number = place.row or 1
        for offset, record in _records(opened, begin):
            number += 1
            cells = _cells(_decoded(record, stated), sign)
            if any(cells):
                width = len(header)
                whole = (*cells[:width], *("",) * (width - len(cells)))
                yield offset, Row(number, whole)

    return header, lines()


def _has_mark(opened: Any) -> bool:
    opened.seek(0)
    return bool(opened.read(3) == codecs.BOM_UTF8)


def _records(opened: Any, begin: int) -> Iterator[tuple[int, bytes]]:
    """Give each record with the byte it begins at; a line break inside quotes does not end it.

    Quotation marks and line breaks are single bytes in UTF-8 and in GB18030 alike.
    """
    opened.seek(begin)
    held, at, place, is_last = b"", begin, 0, False  # `held` begins at byte `at`
    while True:
        cut = _end_of_record(held, place, is_last=is_last)
        if cut > place:
            yield at + place, held[place:cut]
            place = cut
        elif is_last:
            return
        elif len(held) - place > MAX_RECORD:
            raise BadFile(f"a quotation mark is not closed after byte {at + place}")
        else:
            chunk = opened.read(CHUNK)
            held, at, place, is_last = held[place:] + chunk, at + place, 0, not chunk


def _end_of_record(held: bytes, begin: int, *, is_last: bool) -> int:
    """Return where the record that begins at a place ends; there itself when it is not known."""
    at = begin
    while (line := held.find(b"\n", at)) >= 0:
        if held.count(b'"', begin, line) % 2 == 0:
            return line + 1
        at = line + 1
    return len(held) if is_last else begin


def _decoded(raw: bytes, stated: str) -> str:
    """Return a record as text: as it is said to be written, else in what it fits."""
    for charset in filter(None, (stated, "utf-8", "gb18030")):
        try:
            return raw.decode(charset)
        except (UnicodeDecodeError, LookupError):
            continue
    return raw.decode("gb18030", "replace")


def _cells(text: str, sign: str) -> list[str]:
    found = next(iter(csv.reader(io.StringIO(text, newline=""), delimiter=sign)), [])
    return [cell.replace("\x00", "").strip()[: grids.MAX_CELL] for cell in found]
