"""Turns: uploads of every organization become events, some at a time, under a lease.

claim → commit → rows in memory → events (commit) → how far it is (commit). A worker that dies in
between leaves rows that are read again; what came in already is known by its key.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import delete, select, text
from sqlmodel import Session

from connectors.sheets import grids, rows, uploads
from connectors.sheets.rows import Made, Plan
from connectors.sheets.tables import SHEET_UPLOAD, SheetUpload
from identity import suspensions
from kernel import clock, documents, log, queue
from kernel.database import EVERY, StoreUnavailable, reading, store_now, write
from kernel.errors import Problem
from webhooks import addresses, fetched, sources, workers
from webhooks.errors import BacklogFull, OverQuota

LEASE = timedelta(seconds=120)
TURN_SECONDS = 30
BATCH = 200  # events between two notes of how far it is
FORGET_SECONDS = 600.0
_logger = log.get_logger(__name__)
_threads: list[threading.Thread] = []
_forgot_at = float("-inf")
os.register_at_fork(after_in_child=_threads.clear)


@dataclass
class _Gain:
    """What a batch brought."""

    new: int = 0
    known: int = 0
    bad: int = 0
    done_row: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    wait_seconds: int | None = None


def _is_due(session: Session) -> Any:
    now = store_now(session)
    return (
        text("state IN ('waiting', 'leased')"),  # as the partial index has it
        SHEET_UPLOAD.c.next_at <= now,
        SHEET_UPLOAD.c.organization_id.not_in(suspensions.suspended_ids()),
    )


def claim(session: Session, worker_id: str) -> SheetUpload | None:
    """Lease the upload that waits longest; one whose lease ran out is due again."""
    row: SheetUpload | None = session.execute(
        select(SheetUpload)
        .where(*_is_due(session))
        .order_by(SHEET_UPLOAD.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).scalar_one_or_none()
    if row is None:
        return None
    row.state, row.lease_owner, row.lease_epoch = "leased", worker_id, row.lease_epoch + 1
    row.next_at = store_now(session) + LEASE
    session.flush()
    return row


def release(session: Session, worker_id: str) -> int:
    """Take back what a worker held that is known to be gone."""
    found = session.execute(
        select(SheetUpload).where(
            SHEET_UPLOAD.c.state == "leased", SHEET_UPLOAD.c.lease_owner == worker_id
        )
    ).scalars()
    count = 0
    for row in found:
        row.state, row.lease_owner, row.next_at = "waiting", None, store_now(session)
        count += 1
    return count


def take(row: SheetUpload) -> None:
    """Do one turn of an upload."""
    organization_id = row.organization_id
    try:
        with reading(organization_id) as session:
            upload = uploads.find(session, organization_id, row.id)
            plan = uploads.plan_of(session, upload)
            source = sources.get(session, organization_id, upload.source_id or "")
            content, done_row = upload.content or b"", upload.done_row
            opened = addresses.opened(source)
        until = time.monotonic() + TURN_SECONDS
        following = (one for one in grids.read(content).rows() if one.number > done_row)
        made = rows.made(plan, following)
        while True:
            batch = list(islice(made, BATCH))
            gain = _bring_in(opened, plan, batch)
            is_over = len(batch) < BATCH and gain.wait_seconds is None
            rests = gain.wait_seconds is not None or time.monotonic() > until
            still = partial(_record, row=row, gain=gain, is_over=is_over, rests=rests)
            if not write(still, organization_id) or is_over or rests:
                return
    except StoreUnavailable:
        raise  # the file is all right; it goes on once the lease is over
    except Problem as problem:
        write(partial(_stop, row=row, words=problem.plain()), organization_id)


def _bring_in(source: Any, plan: Plan, batch: list[Made]) -> _Gain:
    """Take events in that can be; a full quota leaves the rest of the batch for later."""
    gain = _Gain()
    for start in range(0, len(batch), fetched.AT_ONCE):
        part = batch[start : start + fetched.AT_ONCE]
        good = [one for one in part if not one.wrong]
        new = []
        for one in good:
            raw = documents.dump({"type": plan.event_type.name, "data": one.data})
            headers = {"content-type": "application/json", uploads.ID_HEADER: one.key}
            new += fetched.read(source, headers, raw, clock.now())
        try:
            stored = fetched.take_in(source, new) if new else []
        except (OverQuota, BacklogFull) as full:
            gain.wait_seconds = full.retry_after_seconds or 60
            return gain
        for source_rows, event, kept in zip(good, new, stored, strict=True):
            if kept.is_duplicate:
                gain.known += 1
            elif event.problem is None:
                gain.new += 1
            else:
                gain.bad += 1
                gain.problems.append(_told(source_rows.first_row, event.problem))
        for made in part:
            if made.wrong:
                gain.bad += 1
                gain.problems += [
                    {"row": one.row, "field": one.field, "text": one.text, "say": dict(one.say)}
                    for one in made.wrong[:5]
                ]
        gain.done_row = part[-1].last_row
    return gain


def _told(row: int, problem: Mapping[str, Any]) -> dict[str, Any]:
    first: Mapping[str, str] = next(iter(problem.get("errors", ())), {})
    told = dict(rows.not_fitting(first))
    return {"row": row, "field": "", "text": first.get("pointer", ""), "say": told}


def _held(session: Session, row: SheetUpload) -> SheetUpload | None:
    found = session.execute(
        select(SheetUpload)
        .where(
            SHEET_UPLOAD.c.organization_id == row.organization_id,
            SHEET_UPLOAD.c.id == row.id,
            SHEET_UPLOAD.c.state == "leased",
            SHEET_UPLOAD.c.lease_owner == row.lease_owner,
            SHEET_UPLOAD.c.lease_epoch == row.lease_epoch,
        )
        .with_for_update()
    )
    mine: SheetUpload | None = found.scalar_one_or_none()
    return mine


def _record(session: Session, *, row: SheetUpload, gain: _Gain, is_over: bool, rests: bool) -> bool:
    """Note how far an upload is; False when somebody else holds it by now."""
    mine = _held(session, row)
    if mine is None:
        return False
    now = store_now(session)
    mine.new_count += gain.new
    mine.known_count += gain.known
    mine.bad_count += gain.bad
    mine.done_row = max(mine.done_row, gain.done_row)
    mine.problems = [*mine.problems, *gain.problems][: uploads.PROBLEMS]
    mine.next_at = now + LEASE
    if is_over:
        mine.state, mine.content, mine.next_at, mine.ended_at = "done", None, None, now
    elif rests:
        wait = timedelta(seconds=gain.wait_seconds or 0)
        mine.state, mine.lease_owner, mine.next_at = "waiting", None, now + wait
    session.add(mine)
    return True


def _stop(session: Session, *, row: SheetUpload, words: str) -> None:
    """End an upload that cannot go on; what came in stays."""
    mine = _held(session, row)
    if mine is not None:
        told = {"row": mine.done_row, "field": "", "text": "", "say": {"zh": words, "en": words}}
        mine.problems = [told, *mine.problems][: uploads.PROBLEMS]
        mine.state, mine.content, mine.next_at = "done", None, None
        mine.ended_at = store_now(session)


def forget_old(session: Session) -> int:
    """Throw files away that nobody let in for days."""
    found: Any = session.execute(
        delete(SheetUpload).where(
            SHEET_UPLOAD.c.state == "draft", SHEET_UPLOAD.c.next_at < store_now(session)
        )
    )
    return int(found.rowcount)


def work_all(worker_id: str) -> int:
    """Take turns until nothing is due and return how many were taken."""
    count = 0
    while True:
        row = write(partial(claim, worker_id=worker_id))
        if row is None:
            return count
        count += 1
        try:
            take(row)
        except StoreUnavailable:
            return count  # the lease runs out and somebody goes on once the store is back


def sweep() -> int:
    """Start a thread for what is due, so that a long file never holds the other sweeps up."""
    global _forgot_at
    if not queue.is_consuming():
        return 0
    if time.monotonic() - _forgot_at > FORGET_SECONDS:
        _forgot_at = time.monotonic()
        write(forget_old)
    with reading(EVERY) as session:
        due = session.execute(select(SHEET_UPLOAD.c.id).where(*_is_due(session)).limit(1)).first()
    _threads[:] = [thread for thread in _threads if thread.is_alive()]
    if due is None or _threads:
        return 0
    thread = threading.Thread(target=_work, name="sheets", daemon=True)
    thread.start()
    _threads.append(thread)
    return 1


def _work() -> None:
    try:
        work_all(workers.name())
    except Exception:
        _logger.exception("sheets_stopped")
