"""Uploads: a spreadsheet is sent in, its columns are matched, and it is let in as events."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import openpyxl
from openpyxl.styles import Font
from sqlalchemy import select
from sqlmodel import Session

from catalog import event_types
from catalog.event_types import EventType
from connectors.sheets import grids, matching, rows
from connectors.sheets.fields import SheetField, of_schema
from connectors.sheets.rows import Made, Plan
from connectors.sheets.tables import SHEET_UPLOAD, SheetUpload
from kernel import ids, tenancy
from kernel.database import store_now
from kernel.errors import N_, Conflict, FieldError, Invalid, NotFound
from webhooks import sources
from webhooks.tables import SOURCE, Source

KEPT = timedelta(days=2)  # a file that nobody lets in goes after so long
SHOWN = 20
MOST_CHECKED = 5_000
PROBLEMS = 50
ID_HEADER = "webhook-id"
TRIGGER = "spreadsheet"


@dataclass(frozen=True, slots=True)
class Preview:
    """What an upload would bring: the first events, and what is wrong."""

    fields: Sequence[SheetField]
    missing: Sequence[SheetField]
    first: Sequence[Made]
    wrong: Sequence[rows.Wrong]
    events: int
    good: int
    is_all: bool  # the whole file was looked at


def find(session: Session, organization_id: str, upload_id: str) -> SheetUpload:
    """Return the organization's upload; a stranger's is NotFound."""
    return tenancy.find(session, SheetUpload, organization_id, upload_id)


def recent(session: Session, organization_id: str) -> list[SheetUpload]:
    """Return the latest uploads that were not given up, the newest first."""
    statement = SheetUpload.of(organization_id).where(SHEET_UPLOAD.c.state != "given_up")
    newest = statement.order_by(SHEET_UPLOAD.c.id.desc()).limit(30)
    return list(session.execute(newest).scalars())


def send_in(
    session: Session,
    organization_id: str,
    *,
    name: str,
    content: bytes,
    uploaded_by: str,
    event_type: str | None = None,
) -> SheetUpload:
    """Keep a file and match its columns; raises Invalid for what is no spreadsheet."""
    grid = grids.read(content)
    upload = SheetUpload(
        organization_id=organization_id,
        id=ids.new_id("sht"),
        name=(name or "").replace("\x00", "").strip()[-200:] or "file",
        uploaded_by=uploaded_by,
        content=content,
        header=list(grid.header),
        next_at=store_now(session) + KEPT,
    )
    choose(session, upload, event_type or best_type(session, organization_id, grid.header))
    session.add(upload)
    session.flush()
    return upload


def choices(session: Session, organization_id: str) -> list[EventType]:
    """Return the event types that rows can become, by name."""
    found = event_types.all_types(session, organization_id)
    return [one for one in found if of_schema(one.schema)]


def best_type(session: Session, organization_id: str, header: Sequence[str]) -> str | None:
    """Return the event type whose fields a header names best; None when nothing fits."""
    best: tuple[float, str] = (0.0, "")
    for one in choices(session, organization_id):
        fields = of_schema(one.schema)
        found = matching.match(header, fields)
        needed = [field for field in fields if field.is_required]
        met = sum(field.name in found for field in needed)
        share = len(found) / max(1, len(header)) + met / max(1, len(needed))
        if len(found) > 1 and share > best[0]:
            best = (share, one.name)
    return best[1] or None


def choose(session: Session, upload: SheetUpload, event_type: str | None) -> None:
    """Say what the rows are, and match the columns anew; raises NotFound for an unknown type."""
    upload.event_type, upload.columns, upload.fixed = None, {}, {}
    if event_type:
        found = event_types.find(session, upload.organization_id, event_type)
        upload.event_type = found.name
        upload.columns = matching.match(upload.header, of_schema(found.schema))


def retype(session: Session, upload: SheetUpload, event_type: str) -> None:
    """Say that the rows of a draft are something else; raises NotFound and Conflict."""
    _only_draft(upload)
    choose(session, upload, event_type)


def arrange(
    session: Session, upload: SheetUpload, columns: Mapping[str, int], fixed: Mapping[str, str]
) -> None:
    """Say which column fills which field, and what is the same in all rows; raises Invalid."""
    _only_draft(upload)
    plan = Plan.of(_type_of(session, upload), columns, fixed)
    errors: list[FieldError] = [
        {"pointer": f"/columns/{name}", "message": N_("There is no such column")}
        for name, place in plan.columns.items()
        if not 0 <= place < len(upload.header)
    ]
    errors += [
        {"pointer": f"/columns/{name}", "message": N_("There is no such field")}
        for name in sorted({*columns, *fixed} - plan.fields.keys())
    ]
    if errors:
        raise Invalid(errors=errors)
    upload.columns = dict(plan.columns)
    upload.fixed = {name: text[:500] for name, text in plan.fixed.items()}


def _type_of(session: Session, upload: SheetUpload) -> EventType:
    if not upload.event_type:
        raise Invalid(detail=N_("Choose what the rows are first"))
    return event_types.find(session, upload.organization_id, upload.event_type)


def plan_of(session: Session, upload: SheetUpload) -> Plan:
    """Return how an upload's columns fill its event type; raises Invalid and NotFound."""
    return Plan.of(_type_of(session, upload), upload.columns, upload.fixed)


def preview(session: Session, upload: SheetUpload) -> Preview | None:
    """Look through a file and say what it would bring; None while it is unsaid what it holds."""
    if not upload.event_type or upload.content is None:
        return None
    plan = plan_of(session, upload)
    first: list[Made] = []
    wrong: list[rows.Wrong] = []
    count = good = 0
    rest = rows.made(plan, grids.read(upload.content).rows())
    for one in islice(rest, MOST_CHECKED):
        rows.judged(plan, one)
        count += 1
        good += not one.wrong
        if len(first) < SHOWN:
            first.append(one)
        wrong += one.wrong[: PROBLEMS - len(wrong)]
    is_all = count < MOST_CHECKED
    fields = list(plan.fields.values())
    return Preview(fields, plan.missing(), first, wrong, count, good, is_all)


def let_in(session: Session, upload: SheetUpload) -> None:
    """Let an upload's rows in as events, from now on; raises Invalid while something is missing."""
    _only_draft(upload)
    missing = plan_of(session, upload).missing()
    if missing:
        raise Invalid(
            detail=N_("Say first what fills “%(field)s”"),
            field=" / ".join(dict.fromkeys(missing[0].title.values())),
            errors=[
                {"pointer": f"/columns/{one.name}", "message": N_("This is needed")}
                for one in missing
            ],
        )
    upload.source_id = _source(session, upload.organization_id).id
    upload.state, upload.next_at = "waiting", store_now(session)
    session.flush()  # a sweep finds it within seconds


def give_up(upload: SheetUpload) -> None:
    """Throw a file away that was not let in yet; what came in of another stays."""
    _only_draft(upload)
    upload.state, upload.content, upload.next_at = "given_up", None, None


def _only_draft(upload: SheetUpload) -> None:
    if upload.state != "draft":
        raise Conflict(detail=N_("This file was let in already"))


def _source(session: Session, organization_id: str) -> Source:
    """Return the organization's source for spreadsheets; nobody can send to it."""
    found = session.execute(
        select(Source).where(
            SOURCE.c.organization_id == organization_id,
            SOURCE.c.trigger_key == TRIGGER,
            SOURCE.c.connection_id.is_(None),
            SOURCE.c.state != "closed",
        )
    ).scalars()
    known: Source | None = next(iter(found), None)
    if known is not None:
        return known
    made = sources.create(
        session,
        organization_id,
        name="表格导入 · Spreadsheets",
        scheme=sources.POLL,
        scheme_options={"id_header": ID_HEADER},
        rules={"from": "pointer", "value": "/type", "data_pointer": "/data"},
        trigger_key=TRIGGER,
    )
    session.flush()
    return made


def template(session: Session, organization_id: str, name: str, language: str) -> bytes:
    """Return an .xlsx file to fill in for an event type: names, what they mean, an example."""
    found = event_types.find(session, organization_id, name)
    fields = of_schema(found.schema)
    if not fields:
        raise NotFound
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = found.name[:31]
    shown = [one for one in fields if one.usual is None or one.is_required][:60]
    for place, one in enumerate(shown, start=1):
        cell = sheet.cell(1, place, one.title[language])
        cell.font = Font(bold=one.is_required)
        # as text, so that long numbers and leading zeros stay
        example = sheet.cell(2, place, _example(found.sample, one))
        example.number_format = "@"
        for row in range(3, 203):
            sheet.cell(row, place).number_format = "@"
        sheet.column_dimensions[cell.column_letter].width = max(12, len(one.title[language]) * 2)
    sheet.freeze_panes = "A2"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _example(sample: Any, one: SheetField) -> str:
    value = sample
    for part in one.path:
        if part == "[]":
            value = value[0] if isinstance(value, list) and value else None
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, list):
        return "、".join(map(str, value))
    text = "" if value is None else str(value)
    return text.removesuffix("+08:00").replace("T", " ") if one.is_moment else text
