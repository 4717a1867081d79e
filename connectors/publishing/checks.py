"""Checks: uploaded folders looked at by the machine, one after the other, in a thread of their own.

A folder's row has a time and a lease. Whoever has it asks the bench, outside any transaction, and
writes down what came out; a check that broke twice is a finding like any other.
"""

import threading
import time
from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlmodel import Session

from connectors.publishing import archives, bench, editions
from connectors.publishing.tables import EDITION, ConnectorEdition
from kernel import ids, log
from kernel.database import EVERY, reading, store_now, write

LEASE = timedelta(seconds=bench.SECONDS + 30)
TRIES = 2
_logger = log.get_logger(__name__)
_busy = threading.Lock()


def sweep() -> int:
    """Let a thread of this process look at what waits, unless one is at it; returns 0 or 1."""
    if not _is_any_due() or not _busy.acquire(blocking=False):
        return 0
    threading.Thread(target=_run, name="connector-checks", daemon=True).start()
    return 1


def _run() -> None:
    try:
        while work():
            pass
    except Exception:
        _logger.exception("connector_check_broke")
    finally:
        _busy.release()


def _is_any_due() -> bool:
    with reading(EVERY) as session:
        return session.execute(_due(session).limit(1)).first() is not None


def _due(session: Session) -> Any:
    now = store_now(session)
    return (
        select(EDITION.c.id)
        .where(
            EDITION.c.next_at.is_not(None),
            EDITION.c.next_at <= now,
            or_(EDITION.c.lease_until.is_(None), EDITION.c.lease_until < now),
        )
        .order_by(EDITION.c.next_at)
    )


def work() -> bool:
    """Look at the next folder that waits; tells whether there was one."""
    owner = ids.new_id("chk")
    claimed = write(lambda session: _claim(session, owner))
    if claimed is None:
        return False
    edition_id, raw, tries = claimed
    began = time.perf_counter()
    try:
        files = {name: body.hex() for name, body in archives.read(raw).items()}
        request = {"do": "look", "files": files, "before": _before(edition_id, files)}
        found = bench.ask(request, lambda line: _tell(owner, edition_id, line))
    except bench.Broke:
        if tries < TRIES:
            write(lambda session: _let_go(session, owner, edition_id))
            return True
        found = {"findings": [_BROKE]}
    took_ms = int((time.perf_counter() - began) * 1000)
    write(lambda session: _record(session, owner, edition_id, found, took_ms))
    return True


_BROKE: dict[str, Any] = {
    "rule": "C01",
    "say": {
        "zh": "检查没有做完：文件夹太大、太复杂，或使检查程序中断。请拆小后再试",
        "en": "The check did not come to its end: the folder is too large, too complex, or ended "
        "the program that checks it. Make it smaller and try again",
    },
    "file": "manifest.yaml",
    "line": 0,
    "pointer": "",
}


def _claim(session: Session, owner: str) -> tuple[str, bytes, int] | None:
    now = store_now(session)
    wanted = _due(session).limit(1).with_for_update(skip_locked=True)
    edition_id = session.execute(wanted).scalar_one_or_none()
    if edition_id is None:
        return None
    edition = session.get_one(ConnectorEdition, edition_id)
    edition.lease_owner, edition.lease_until = owner, now + LEASE
    edition.try_count += 1
    session.add(edition)
    return edition.id, bytes(edition.archive), edition.try_count


def _before(edition_id: str, files: dict[str, str]) -> dict[str, str] | None:
    """Return the files of the version that was published before, to compare with."""
    name = archives.key_in(bytes.fromhex(files["manifest.yaml"]))
    with reading(EVERY) as session:
        edition = editions.find(session, edition_id)
        old = editions.before(session, edition, name) if name else None
        if old is None:
            return None
        return {one: body.hex() for one, body in archives.read(bytes(old.archive)).items()}


def _held(owner: str, edition_id: str) -> Any:
    return update(EDITION).where(EDITION.c.id == edition_id, EDITION.c.lease_owner == owner)


def _tell(owner: str, edition_id: str, line: dict[str, Any]) -> None:
    write(lambda session: session.execute(_held(owner, edition_id).values(trial=line)) and None)


def _let_go(session: Session, owner: str, edition_id: str) -> None:
    session.execute(_held(owner, edition_id).values(lease_owner=None, lease_until=None))


def _record(
    session: Session, owner: str, edition_id: str, found: dict[str, Any], took_ms: int
) -> None:
    """Write down what the bench said, unless the folder was changed meanwhile."""
    edition = session.get(ConnectorEdition, edition_id)
    if edition is None:
        return
    session.refresh(edition, with_for_update=True)
    if edition.lease_owner != owner or edition.state != "checking":
        return
    trial = found.get("trial") or {}
    is_good = not found["findings"] and "name" in found and not trial.get("failed")
    edition.state = "checked" if is_good else "failed"
    edition.findings = found["findings"]
    edition.trial = {**trial, "took_ms": took_ms}
    for name in ("name", "version", "title", "summary", "slots", "reach", "changes"):
        if name in found:
            setattr(edition, name, found[name])
    edition.is_allowed = bool(found.get("is_allowed", True))
    old = editions.before(session, edition, edition.name) if edition.name else None
    edition.compared_to = old.version if old is not None and "changes" in found else None
    edition.next_at = edition.lease_owner = edition.lease_until = None
    session.add(edition)
