"""Workers: which processes of the hub are alive, so that what a dead one held is soon taken up.

A process signs on under a name of its own before it takes its first lease. Neighbours on the same
machine are looked up among its processes; those elsewhere must beat, and who was not heard for a
while, by the watch of whoever listens, counts as gone. Leases still end by themselves after that.
Who ends in peace signs off. Whoever starts where another is gone without it is wary for a while: an
event may have been the cause, and may come again.
"""

import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlmodel import Session

from kernel import log, queue
from kernel.database import EVERY, StoreUnavailable, reading, store_now, write
from kernel.ids import new_id
from kernel.settings import VERSION, settings
from webhooks.tables import WORKER

BEAT_SECONDS = 3.0
SILENT_SECONDS = 15.0
WARY_SECONDS = 60.0
# Each gives back what a worker of that name holds and returns how many rows that were.
HOLDERS: list[Callable[[Session, str], int]] = []
_logger = log.get_logger(__name__)

_name: str | None = None
_signing_on = threading.Lock()
_wary_until = 0.0
_heard: dict[str, tuple[int, float]] = {}  # worker → its last beat, and when we first saw that one


def _forget() -> None:
    """Be somebody else after a fork."""
    global _name, _signing_on, _wary_until
    _name, _signing_on, _wary_until = None, threading.Lock(), 0.0
    _heard.clear()


os.register_at_fork(after_in_child=_forget)


def name() -> str:
    """Return this process's name; signs on first, so that nobody leases under an unknown name."""
    global _name, _wary_until
    with _signing_on:
        if _name is None:
            if gone():
                _wary_until = time.monotonic() + WARY_SECONDS
            fresh = new_id("wrk")
            write(lambda session: _sign_on(session, fresh))
            _name = fresh
        return _name


def is_wary() -> bool:
    """Tell whether this process began where another had gone without a word, not long ago."""
    return time.monotonic() < _wary_until


def sign_off() -> None:
    """Say that this process ends in peace and holds nothing; the store may be away."""
    try:
        write(lambda session: session.execute(delete(WORKER).where(WORKER.c.id == _name)))
    except StoreUnavailable:
        _logger.warning("not_signed_off")


def _sign_on(session: Session, fresh: str) -> None:
    pid = os.getpid()
    now = store_now(session)
    row = {"id": fresh, "created_at": now, "heard_at": now, "beats": 0, "version": VERSION}
    row |= {"drains": queue.is_consuming(), "kind": _kind()}
    session.execute(insert(WORKER).values(place=_place(), pid=pid, born=_born(pid), **row))


def _kind() -> str:
    if settings().mode == "embedded":
        return "embedded"
    return "worker" if queue.is_consuming() else "web"


def _place() -> str:
    """Name the machine since its last start and the process table on it; "" when it cannot tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return when a process was started, in the machine's own count; "" when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # the name before the last bracket may hold blanks; a zombie works no more
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


def beat() -> None:
    """Let the others hear that this process is alive; signs on again if they had given it up."""
    mine = name()

    def work(session: Session) -> None:
        told = {"beats": WORKER.c.beats + 1, "heard_at": store_now(session)}
        heard = update(WORKER).where(WORKER.c.id == mine).values(told)
        if not session.execute(heard.returning(WORKER.c.id)).first():
            _sign_on(session, mine)

    write(work)


def keep_beating() -> threading.Thread:
    """Start the thread that beats for this process."""

    def run() -> None:
        while True:
            try:
                beat()
            except Exception as error:  # noqa: BLE001 - the store may be away; the next beat tells
                _logger.warning("beat_missed", error=str(error)[:200])
            time.sleep(BEAT_SECONDS)

    thread = threading.Thread(target=run, name="beat", daemon=True)
    thread.start()
    return thread


@dataclass(frozen=True, slots=True)
class Sign:
    """A process that signed on, as people see it; silent: it may be gone."""

    id: str
    kind: str  # web | worker | embedded
    machine: str
    pid: int
    version: str
    since: datetime
    heard_at: datetime
    is_silent: bool


def signs(session: Session) -> list[Sign]:
    """Return the processes that signed on and were not given up, the oldest first."""
    now, here = store_now(session), _place()
    rows = session.execute(select(WORKER).order_by(WORKER.c.id).limit(200)).mappings().all()
    return [_sign(dict(row), here, now) for row in rows]


def _sign(row: dict[str, Any], here: str, now: datetime) -> Sign:
    """Neighbours on the same machine are seen to live; others must have been heard of lately."""
    heard_at: datetime = row["heard_at"] or row["created_at"]
    if here and row["place"] == here:
        is_silent = _born(row["pid"]) != row["born"]
        heard_at = heard_at if is_silent else now
    else:
        is_silent = (now - heard_at).total_seconds() > SILENT_SECONDS
    machine = row["place"].split(" ")[0] or "?"
    told = (row["kind"] or "?", machine, row["pid"], row["version"] or "?", row["created_at"])
    return Sign(row["id"], *told, heard_at=heard_at, is_silent=is_silent)


def gone() -> list[str]:
    """Name the workers that are gone."""
    with reading(EVERY) as session:
        rows = session.execute(select(WORKER).where(WORKER.c.id != _name)).mappings().all()
    here, now = _place(), time.monotonic()
    for absent in set(_heard) - {row["id"] for row in rows}:
        _heard.pop(absent, None)
    return [row["id"] for row in rows if _is_gone(dict(row), here, now)]


def _is_gone(row: dict[str, object], here: str, now: float) -> bool:
    if here and row["place"] == here:
        return _born(int(str(row["pid"]))) != row["born"]
    worker, beats = str(row["id"]), int(str(row["beats"]))
    heard = _heard.get(worker)
    if heard is None or heard[0] != beats:
        _heard[worker] = (beats, now)
        return False
    return now - heard[1] > SILENT_SECONDS


def is_any_draining() -> bool:
    """Tell whether any process has signed on whose work is to drain."""
    with reading(EVERY) as session:
        found = select(WORKER.c.id).where(WORKER.c.drains).limit(1)
        return session.execute(found).first() is not None


def release(names: list[str]) -> int:
    """Give back at once what dead workers held; returns how many rows that were."""

    def work(session: Session) -> int:
        freed = sum(holder(session, dead) for dead in names for holder in HOLDERS)
        session.execute(delete(WORKER).where(WORKER.c.id.in_(names)))
        return freed

    return write(work) if names else 0
