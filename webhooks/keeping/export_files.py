"""Export files: a .zip written as a stream, from live rows and from the archive.

`events.jsonl` has one CloudEvent a line, its data byte for byte as it came in: as JSON where that
fits into a line, else as base64. The tables beside it are CSV whose cells no spreadsheet takes for
a formula. Whatever the size, a few dozen events are in memory at once.
"""

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session

from kernel import documents
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.ids import first_id
from webhooks import parcels
from webhooks.fan_out import matches
from webhooks.keeping import chunks, records
from webhooks.keeping.tables import DATA_EXPORT, DataExport
from webhooks.keeping.turns import Lease
from webhooks.tables import EVENT

PAGE = 50
DELIVERY_COLUMNS = (
    "id", "endpoint_id", "state", "attempt_count", "last_status", "last_problem", "created_at",
    "delivered_at",
)  # fmt: skip
_JSON = "application/json"
_NO_DATA = b',"data":null}'
_SKEW = timedelta(days=2)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
Record = dict[str, Any]


class Cancelled(Exception):  # noqa: N818 - says what happened
    """Somebody does not want the export any more."""


def note(session: Session, export: DataExport, **values: Any) -> None:
    """Write down how far an export is; raises Cancelled when nobody wants it any more."""
    changed = session.execute(
        update(DATA_EXPORT)
        .where(
            DATA_EXPORT.c.organization_id == export.organization_id,
            DATA_EXPORT.c.id == export.id,
            DATA_EXPORT.c.state.in_(("queued", "running")),
        )
        .values(**values)
        .returning(DATA_EXPORT.c.id)
    ).all()
    if not changed:
        raise Cancelled


class Draft:
    """One export being written, under the lease that keeps its events where they are."""

    def __init__(self, lease: Lease, export: DataExport) -> None:
        """Write this export."""
        self.lease, self.export = lease, export
        self.byte_count = 0
        self._digest = hashlib.sha256()
        self._restored: set[str] = set()

    @property
    def digest(self) -> str:
        """Return the SHA-256 of what was given out so far."""
        return self._digest.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """Give the .zip, piece by piece."""
        for piece in _zip(self._entries()):
            self._digest.update(piece)
            self.byte_count += len(piece)
            yield piece

    def _entries(self) -> Iterator[tuple[str, Iterable[bytes]]]:
        yield "events.jsonl", self._events()
        yield "deliveries.csv", self._table("deliveries", "delivery_count", DELIVERY_COLUMNS)
        for follower in records.FOLLOWERS:
            yield f"{follower.name}.csv", self._table(follower.name, "run_count", follower.columns)

    def note(self, session: Session, **values: Any) -> None:
        """Write down how far it is."""
        note(session, self.export, **values)

    def _advance(self, stage: str, **counts: int) -> None:
        with transaction(self.lease.organization_id) as session:
            self.lease.hold(session)
            self.note(session, stage=stage, **counts)

    def _events(self) -> Iterator[bytes]:
        count = 0
        for page in self._pages():
            # a second copy is of an event that came back after a replay
            lines = [cloud_event(records.event_of(one)) for one in page if not self._is_copy(one)]
            count += len(lines)
            self._advance("events", event_count=count)
            yield b"".join(lines)

    def _table(self, name: str, counter: str, columns: Sequence[str]) -> Iterator[bytes]:
        yield "\ufeff".encode() + _csv([("event_id", "event_type", *columns)])
        count = 0
        for page in self._pages():
            rows = [
                (one["event"]["id"], one["event"]["type"], *(row.get(c) for c in columns))
                for one in page
                for row in one.get(name, ())
            ]
            count += len(rows)
            self._advance(name, **{counter: count})
            yield _csv(rows)

    def _is_copy(self, record: Record) -> bool:
        return bool(record.get("is_copy"))

    def _pages(self) -> Iterator[list[Record]]:
        yield from self._live()
        yield from self._archived()

    def _live(self) -> Iterator[list[Record]]:
        tenant, export, last_id = self.lease.organization_id, self.export, ""
        last_id = first_id("evt", export.from_at - _SKEW)
        while True:
            with reading(tenant) as session:
                wanted = select(EVENT.c.id, EVENT.c.type).where(
                    EVENT.c.organization_id == tenant,
                    EVENT.c.id > last_id,
                    EVENT.c.id < first_id("evt", export.until_at + _SKEW),
                    EVENT.c.received_at >= export.from_at,
                    EVENT.c.received_at < export.until_at,
                    EVENT.c.state != "archived",
                )
                rows = session.execute(wanted.order_by(EVENT.c.id).limit(PAGE)).all()
                ids = [row.id for row in rows if matches([export.event_types], row.type)]
                found = records.collect(session, tenant, ids)
            self._restored |= {one["event"]["id"] for one in found if one["restored"]}
            if found:
                yield found
            if len(rows) < PAGE:
                return
            last_id = rows[-1].id

    def _archived(self) -> Iterator[list[Record]]:
        tenant, export, last_id = self.lease.organization_id, self.export, ""
        while True:
            with reading(tenant) as session:
                page = chunks.after(
                    session, tenant, last_id, since=export.from_at, until=export.until_at
                )
            if not page:
                return
            last_id = page[-1].id
            for chunk in page:
                if any(matches([export.event_types], name) for name in chunk.types):
                    found = [one for one in chunks.read(chunk) if self._is_meant(one)]
                    self._mark_copies(chunk.id, found)
                    for start in range(0, len(found), PAGE):
                        yield found[start : start + PAGE]

    def _is_meant(self, record: Record) -> bool:
        return chunks.is_within(record, self.export.from_at, self.export.until_at) and matches(
            [self.export.event_types], record["event"]["type"]
        )

    def _mark_copies(self, chunk_id: str, found: Sequence[Record]) -> None:
        """Mark what is live again, or was archived before: its deliveries count, it does not."""
        for record in found:
            event_id = record["event"]["id"]
            is_copy = event_id in self._restored
            if record["restored"] and not is_copy:
                with reading(self.lease.organization_id) as session:
                    older = [
                        one
                        for one in chunks.covering(session, self.lease.organization_id, event_id)
                        if one.id < chunk_id
                    ]
                is_copy = bool(chunks.records_of(older, event_id))
            record["is_copy"] = is_copy


def cloud_event(event: Mapping[str, Any]) -> bytes:
    """Write an event as one line, its data exactly as it came in."""
    body: bytes = event["body"]
    if event["content_type"] == _JSON and b"\n" not in body and b"\r" not in body:
        try:
            documents.parse(body, max_bytes=max(len(body), 1))
            return parcels.cloud_event(event) + b"\n"
        except Problem:
            pass  # it was kept although it is no JSON
    head = parcels.cloud_event({**event, "body": b"null", "content_type": _JSON})
    kind = documents.dump(event["content_type"])
    head = head.removesuffix(_NO_DATA).replace(
        b'"datacontenttype":"application/json"', b'"datacontenttype":' + kind, 1
    )
    return head + b',"data_base64":"' + base64.b64encode(body) + b'"}\n'


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    """Keep a text from being read as a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


class _Buffer(io.RawIOBase):
    """Takes what the .zip writer writes, and is emptied after every piece."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._held += content
        return len(content)

    def take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken


def _zip(entries: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    buffer = _Buffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, pieces in entries:
            with archive.open(name, "w", force_zip64=True) as entry:
                for piece in pieces:
                    entry.write(piece)
                    yield buffer.take()
    yield buffer.take()
