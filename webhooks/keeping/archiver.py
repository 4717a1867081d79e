"""Archiver: finished events that are old enough leave the live list for the archive's files.

First the file is written, brought to the disk and read back; then one transaction records it and
deletes the rows, and only if nothing has moved meanwhile. A kill before that transaction leaves a
file that nobody knows, which the next pass removes; a kill after it leaves nothing to do.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlmodel import Session

from kernel.database import reading, store_now, transaction
from kernel.ids import first_id
from webhooks import refusals
from webhooks.keeping import chunks, records, rules
from webhooks.keeping.records import Forgetting, Standings
from webhooks.keeping.rules import Rules
from webhooks.keeping.stores import store
from webhooks.keeping.tables import ARCHIVE_CHUNK, DATA_EXPORT, ArchiveChunk, Keeping
from webhooks.keeping.turns import Lease
from webhooks.leases import is_in
from webhooks.tables import ATTEMPT, EVENT

PAGE = 500  # events looked at, and at most moved, at once
FORGOTTEN_AT_ONCE = 200  # runs, each with its steps
CHUNK_BYTES = 4 << 20  # of records, before they are packed
TURN_SECONDS = 10.0  # then another organization has its turn
PAUSE_SECONDS = 0.02  # between two deletions, so that SQLite's one writer is free for others
_READ = 50
_SKEW = timedelta(days=2)  # by how much an id's own time may be off
_IS_ARCHIVED = is_in(EVENT.c.state, "archived")  # written out, or the partial index would not serve


@dataclass(slots=True)
class _Page:
    """Some events in the order of their ids: how far it reached, and who may go."""

    last_id: str = ""
    is_last: bool = True
    # (rule's types, day) → ids
    due: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    before: Standings = field(default_factory=dict)


def archive(lease: Lease) -> bool:
    """Move what is due, for a while; True when the pass is not through."""
    deadline = time.monotonic() + TURN_SECONDS
    tenant = lease.organization_id
    with reading(tenant) as session:
        row = session.get(Keeping, (tenant, tenant))
        passed_id = row.passed_id if row else ""
        found = rules.find(session, tenant)
    if not passed_id:
        remove_strays(lease)
        with transaction(tenant) as session:
            lease.hold(session, moved=0)
    while True:
        page = _look(tenant, found, passed_id)
        for (event_types, _day), ids in page.due.items():
            _move(lease, found, event_types, ids, page.before)
        passed_id = page.last_id
        with transaction(tenant) as session:
            if page.is_last:
                lease.hold(session, passed_id="", finished_at=store_now(session))
                return False
            lease.hold(session, passed_id=passed_id)
        if time.monotonic() > deadline:
            return True


def _look(tenant: str, found: Rules, passed_id: str) -> _Page:
    """Read the next events and tell which are old enough and have come to rest."""
    page = _Page()
    with reading(tenant) as session:
        now = store_now(session)
        youngest = now - timedelta(days=found.shortest_days())
        wanted = (
            select(EVENT.c.id, EVENT.c.type, EVENT.c.state, EVENT.c.created_at, EVENT.c.received_at)
            .where(
                EVENT.c.organization_id == tenant,
                EVENT.c.id > passed_id,
                EVENT.c.id < first_id("evt", youngest + _SKEW),
            )
            .order_by(EVENT.c.id)
            .limit(PAGE)
        )
        rows = session.execute(wanted).all()
        old = {}
        for row in rows:
            rule = found.of_type(row.type)
            age = now - row.created_at
            if row.state in records.STATES and age > timedelta(days=rule.days_of(row.state)):
                old[row.id] = (rule, row, age)
        page.before = records.standings(session, tenant, list(old))
    for event_id, (rule, row, age) in old.items():
        standing = page.before[event_id]
        if not standing.is_moving and (not standing.is_parked or age > rules.PARKED_KEPT):
            page.due[rule.event_types, chunks.day_of(row.received_at)].append(event_id)
    page.is_last = len(rows) < PAGE
    page.last_id = rows[-1].id if rows else passed_id
    return page


def _move(
    lease: Lease, held: Rules, event_types: str, ids: Sequence[str], before: Standings
) -> None:
    """Bring some events of one day into the archive, or only away when none is wanted.

    What tries and runs sent and got goes along only if it may be kept as long as the archive is.
    """
    rule = held.of_pattern(event_types)
    if not rule.archive_days:
        _take_away(lease, None, ids, before)
        return
    found: list[dict[str, Any]] = []
    size = 0
    for start in range(0, len(ids), _READ):
        with reading(lease.organization_id) as session:
            more = records.collect(session, lease.organization_id, ids[start : start + _READ])
            forgetting = _forgetting(session, lease.organization_id)
        if forgetting.days < rule.live_days + rule.archive_days:
            for record in more:
                records.bare(record, forgetting)
        found += more
        size += sum(len(record["event"]["body"]) for record in more)
        size += sum(len(step) for record in more for step in map(records.line, _hanging(record)))
        if size >= CHUNK_BYTES:
            _write_and_take_away(lease, event_types, found, before)
            found, size = [], 0
    if found:
        _write_and_take_away(lease, event_types, found, before)


def _hanging(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: rows} for name, rows in record.items() if isinstance(rows, list) and rows]


def _write_and_take_away(
    lease: Lease, event_types: str, found: list[dict[str, Any]], before: Standings
) -> None:
    chunk = chunks.write(lease, event_types, found)
    ids = [record["event"]["id"] for record in found]
    if not _take_away(lease, chunk, ids, before):
        store().delete(chunk.key)


def _take_away(
    lease: Lease, chunk: ArchiveChunk | None, ids: Sequence[str], before: Standings
) -> bool:
    """Record the chunk and delete the rows in one transaction; False when something moved."""
    tenant = lease.organization_id
    time.sleep(PAUSE_SECONDS)
    with transaction(tenant) as session:
        lease.hold(session)
        now = records.standings(session, tenant, ids, lock=True)
        if any(now.get(one) != before[one] for one in ids):
            return False
        if chunk is not None:
            session.add(chunk)
            session.flush()
        records.drop(session, tenant, ids, store_now(session))
        _count(session, lease, len(ids))
    return True


def _count(session: Session, lease: Lease, moved: int) -> None:
    row = session.get(Keeping, (lease.organization_id, lease.organization_id))
    lease.hold(session, moved=(row.moved if row else 0) + moved)


def remove_strays(lease: Lease) -> int:
    """Delete files that no row knows: what a killed writer or a lost deletion left behind.

    Only files of earlier leases: those can no longer be recorded by anybody.
    """
    tenant = lease.organization_id
    names = [name for name in store().list(tenant) if _epoch_of(name) < lease.epoch]
    if not names:
        return 0
    with reading(tenant) as session:
        known = set(
            session.execute(
                select(ARCHIVE_CHUNK.c.key).where(ARCHIVE_CHUNK.c.organization_id == tenant)
            ).scalars()
        )
        known |= set(
            session.execute(
                select(DATA_EXPORT.c.key).where(DATA_EXPORT.c.organization_id == tenant)
            ).scalars()
        )
    strays = [name for name in names if name not in known]
    for name in strays:
        lease.renew()
        store().delete(name)
    return len(strays)


def _epoch_of(name: str) -> int:
    """Read a writer's epoch out of `…/arf_1.7.yfa` or its draft."""
    parts = name.rpartition("/")[2].split(".")
    return int(parts[1]) if len(parts) > 2 and parts[1].isdigit() else 0


# --- what grows old otherwise --------------------------------------------------------------------


def expire_chunks(lease: Lease) -> bool:
    """Drop what has been in the archive as long as its rule wants."""
    tenant, last_id, is_last = lease.organization_id, "", False
    while not is_last:
        with reading(tenant) as session:
            now, found = store_now(session), rules.find(session, tenant)
            shortest = min(rule.archive_days for rule in found.all)
            wanted = ArchiveChunk.of(tenant).where(
                ARCHIVE_CHUNK.c.id > last_id,
                ARCHIVE_CHUNK.c.created_at <= now - timedelta(days=shortest),
            )
            page = session.execute(wanted.order_by(ARCHIVE_CHUNK.c.id).limit(PAGE)).scalars().all()
        _expire(lease, [chunk for chunk in page if _is_over(chunk, found, now)])
        is_last = len(page) < PAGE
        last_id = page[-1].id if page else last_id
    return False


def _expire(lease: Lease, old: Sequence[ArchiveChunk]) -> None:
    tenant = lease.organization_id
    for chunk in old:
        with transaction(tenant) as session:
            lease.hold(session)
            session.execute(
                delete(ARCHIVE_CHUNK).where(
                    ARCHIVE_CHUNK.c.organization_id == tenant, ARCHIVE_CHUNK.c.id == chunk.id
                )
            )
        store().delete(chunk.key)


def _is_over(chunk: ArchiveChunk, found: Rules, now: datetime) -> bool:
    days = found.of_pattern(chunk.event_types).archive_days
    return chunk.created_at <= now - timedelta(days=days)


def forget_keys(lease: Lease) -> bool:
    """Delete the empty rows whose dedupe keys need no longer be remembered."""
    tenant = lease.organization_id
    while True:
        with transaction(tenant) as session:
            lease.hold(session)
            since = store_now(session) - rules.KEYS_KEPT
            some = (
                select(EVENT.c.id)
                .where(EVENT.c.organization_id == tenant, _IS_ARCHIVED, EVENT.c.received_at < since)
                .order_by(EVENT.c.id)
                .limit(PAGE)
            )
            ids = session.execute(some).scalars().all()
            session.execute(
                delete(EVENT).where(
                    EVENT.c.organization_id == tenant, _IS_ARCHIVED, EVENT.c.id.in_(ids)
                )
            )
        if len(ids) < PAGE:
            return False
        time.sleep(PAUSE_SECONDS)


def forget_refusals(lease: Lease) -> bool:
    """Drop what is noted of single refused requests when rejected events of that age go too."""
    tenant = lease.organization_id
    with transaction(tenant) as session:
        lease.hold(session)
        days = rules.find(session, tenant).general.rejected_days
        refusals.drop_notes(session, tenant, store_now(session) - timedelta(days=days))
    return False


def forget_details(lease: Lease) -> bool:
    """Take what attempts and runs sent and got away, once it has served for looking into failures.

    True when somebody else is to have a turn before the rest goes.
    """
    deadline = time.monotonic() + TURN_SECONDS
    return _forget_attempts(lease, deadline) or _forget_followers(lease, deadline)


def _forget_followers(lease: Lease, deadline: float) -> bool:
    for follower in records.FOLLOWERS:
        count = FORGOTTEN_AT_ONCE
        while count == FORGOTTEN_AT_ONCE:
            with transaction(lease.organization_id) as session:
                lease.hold(session)
                forgetting = _forgetting(session, lease.organization_id)
                count = follower.forget(session, lease.organization_id, forgetting)
            if count == FORGOTTEN_AT_ONCE and time.monotonic() > deadline:
                return True
            time.sleep(PAUSE_SECONDS)
    return False


def _forgetting(session: Session, tenant: str) -> Forgetting:
    now, days = store_now(session), rules.find(session, tenant).general.detail_days
    return Forgetting(now - timedelta(days=days), now, days, FORGOTTEN_AT_ONCE)


def _forget_attempts(lease: Lease, deadline: float) -> bool:
    tenant = lease.organization_id
    while True:
        with transaction(tenant) as session:
            lease.hold(session)
            row = session.get(Keeping, (tenant, tenant))
            days = rules.find(session, tenant).general.detail_days
            since = store_now(session) - timedelta(days=days)
            wanted = select(ATTEMPT.c.id, ATTEMPT.c.started_at).where(
                ATTEMPT.c.organization_id == tenant, ATTEMPT.c.id > (row.detail_id if row else "")
            )
            found = session.execute(wanted.order_by(ATTEMPT.c.id).limit(PAGE)).all()
            old = [one.id for one in found if one.started_at < since]
            session.execute(
                update(ATTEMPT)
                .where(ATTEMPT.c.organization_id == tenant, ATTEMPT.c.id.in_(old))
                .values(**records.ATTEMPT_BARE)
            )
            if old:
                lease.hold(session, detail_id=old[-1])
        if len(old) < PAGE or time.monotonic() > deadline:
            return len(old) == PAGE
        time.sleep(PAUSE_SECONDS)
