"""Chunks: the archive's files as rows, written, verified, opened and found again."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Select, Text, func, select, type_coerce
from sqlmodel import Session

from kernel import log, tenancy
from kernel.errors import N_, NotFound, Unavailable
from kernel.ids import new_id
from kernel.settings import settings
from kernel.vault import VaultError
from webhooks.keeping import records, sealed_files
from webhooks.keeping.stores import store
from webhooks.keeping.tables import ARCHIVE_CHUNK, ArchiveChunk
from webhooks.keeping.turns import Lease, Trouble

SUFFIX = ".yfa"
_BROKEN = N_("The operator of the hub must look after its archive.")
_logger = log.get_logger(__name__)


class Unreadable(Unavailable):
    """A file of the archive is not where it should be, or not as it was written."""

    code = "archive_unreadable"
    default_title = N_("A part of the archive cannot be read right now")
    default_safe = N_("Nothing was changed.")


def day_of(moment: datetime) -> str:
    """Return the day as people here count it."""
    return moment.astimezone(ZoneInfo(settings().time_zone)).date().isoformat()


def write(
    lease: Lease,
    event_types: str,
    found: Sequence[Mapping[str, Any]],
    chunk_id: str | None = None,
) -> ArchiveChunk:
    """Write records into a file, bring it to the disk and read it back; no row says so yet.

    `chunk_id` is that of the chunk whose file it takes the place of.

    Raises OSError, or Trouble when what comes back is not what was written.
    """
    came = [datetime.fromisoformat(record["event"]["received_at"]) for record in found]
    ids = [str(record["event"]["id"]) for record in found]
    day = day_of(min(came))
    chunk = ArchiveChunk(
        organization_id=lease.organization_id,
        id=chunk_id or new_id("arc"),
        day=day,
        event_types=event_types,
        from_at=min(came),
        until_at=max(came),
        from_id=min(ids),
        until_id=max(ids),
        event_count=len(found),
        delivery_count=records.count_deliveries(found),
        run_count=records.count_runs(found),
        byte_count=0,
        types=sorted({str(record["event"]["type"]) for record in found}),
        digest="",
        # a name of its own for every file: nothing is ever written over
        key=f"{lease.organization_id}/{day}/{new_id('arf')}.{lease.epoch}{SUFFIX}",
    )
    lines = [records.line(record) for record in found]
    sealed = sealed_files.seal(_deflate(lines), _context(chunk))
    stored = store().put(chunk.key, sealed)
    chunk.byte_count, chunk.digest = stored.byte_count, stored.digest
    _verify(chunk, lines)
    return chunk


def _deflate(lines: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(6)
    for one in lines:
        yield packer.compress(one)
    yield packer.flush()


def _verify(chunk: ArchiveChunk, lines: Sequence[bytes]) -> None:
    """Read the file back as a reader would; what does not come back the same is thrown away."""
    try:
        is_same = list(_lines(chunk)) == list(lines)
    except Unreadable:
        is_same = False
    if not is_same:
        store().delete(chunk.key)
        raise Trouble("not_verified")


def _context(chunk: ArchiveChunk) -> str:
    return f"{chunk.organization_id}|archive_chunk|{chunk.id}|{chunk.key}"


def read(chunk: ArchiveChunk) -> Iterator[dict[str, Any]]:
    """Give a chunk's records in order; raises Unreadable when the file is not as it was written."""
    return (records.parse(one) for one in _lines(chunk))


def _lines(chunk: ArchiveChunk) -> list[bytes]:
    try:
        raw = b"".join(store().get(chunk.key))
        if hashlib.sha256(raw).hexdigest() != chunk.digest:
            raise VaultError("the file is not the one that was written")
        packed = b"".join(sealed_files.unseal([raw], _context(chunk)))
        lines = zlib.decompress(packed).splitlines(keepends=True)
    except (NotFound, OSError, VaultError, zlib.error) as error:
        _logger.warning("archive_unreadable", chunk_id=chunk.id, error=str(error)[:200])
        raise Unreadable(detail=_BROKEN) from error
    return lines


# --- finding -------------------------------------------------------------------------------------


def listing(
    organization_id: str, *, day: str | None = None, event_type: str | None = None
) -> "Select[Any]":
    """Select an organization's chunks, of one day or that may hold a type, for a page of them."""
    statement = ArchiveChunk.of(organization_id)
    if day:
        statement = statement.where(ARCHIVE_CHUNK.c.day == day)
    if event_type:
        names = type_coerce(ARCHIVE_CHUNK.c.types, Text)  # the JSON as it is written
        end = "" if event_type.endswith("*") else '"'
        quoted = f'"{event_type.removesuffix("*")}{end}'
        statement = statement.where(names.contains(quoted, autoescape=True))
    return statement


def days(session: Session, organization_id: str, *, before: str | None, limit: int) -> list[Any]:
    """Return (day, chunks, events, deliveries, bytes), newest first."""
    wanted = select(
        ARCHIVE_CHUNK.c.day,
        func.count().label("chunks"),
        func.sum(ARCHIVE_CHUNK.c.event_count).label("events"),
        func.sum(ARCHIVE_CHUNK.c.delivery_count).label("deliveries"),
        func.sum(ARCHIVE_CHUNK.c.byte_count).label("bytes"),
    ).where(ARCHIVE_CHUNK.c.organization_id == organization_id)
    if before:
        wanted = wanted.where(ARCHIVE_CHUNK.c.day < before)
    grouped = wanted.group_by(ARCHIVE_CHUNK.c.day).order_by(ARCHIVE_CHUNK.c.day.desc())
    return list(session.execute(grouped.limit(limit)))


def find(session: Session, organization_id: str, chunk_id: str) -> ArchiveChunk:
    """Return the organization's chunk; raises NotFound."""
    return tenancy.find(session, ArchiveChunk, organization_id, chunk_id)


def covering(session: Session, organization_id: str, event_id: str) -> list[ArchiveChunk]:
    """Return the chunks that may hold an event, the oldest first."""
    statement = ArchiveChunk.of(organization_id).where(
        ARCHIVE_CHUNK.c.from_id <= event_id, ARCHIVE_CHUNK.c.until_id >= event_id
    )
    return list(session.execute(statement.order_by(ARCHIVE_CHUNK.c.id)).scalars())


def after(
    session: Session,
    organization_id: str,
    last_id: str = "",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 20,
) -> list[ArchiveChunk]:
    """Return the next chunks that may hold something of a time, in the order they were written."""
    statement = ArchiveChunk.of(organization_id).where(ARCHIVE_CHUNK.c.id > last_id)
    if since is not None:
        statement = statement.where(ARCHIVE_CHUNK.c.until_at >= since)
    if until is not None:
        statement = statement.where(ARCHIVE_CHUNK.c.from_at <= until)
    return list(session.execute(statement.order_by(ARCHIVE_CHUNK.c.id).limit(limit)).scalars())


def totals(session: Session, organization_id: str) -> tuple[int, int, int]:
    """Return how many chunks, events and bytes an organization's archive has."""
    row = session.execute(
        select(
            func.count(),
            func.coalesce(func.sum(ARCHIVE_CHUNK.c.event_count), 0),
            func.coalesce(func.sum(ARCHIVE_CHUNK.c.byte_count), 0),
        ).where(ARCHIVE_CHUNK.c.organization_id == organization_id)
    ).one()
    return int(row[0]), int(row[1]), int(row[2])


def records_of(found: Iterable[ArchiveChunk], event_id: str) -> list[dict[str, Any]]:
    """Open chunks and return what they hold of an event: once, or more often after replays."""
    return [one for chunk in found for one in read(chunk) if one["event"]["id"] == event_id]


def is_within(record: Mapping[str, Any], since: datetime, until: datetime) -> bool:
    """Tell whether a record's event came in within a time."""
    came = datetime.fromisoformat(record["event"]["received_at"]).astimezone(UTC)
    return since <= came < until
