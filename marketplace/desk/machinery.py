"""Machinery: the processes, the store, the broker and the disk, each looked at for a moment."""

import shutil
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from connectors.tables import HEARTBEAT
from kernel import clock, queue
from kernel.database import write
from kernel.settings import settings
from marketplace import migrating

PING_SECONDS = 1.0
PING_KEPT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StoreLook:
    """The database: what it is, how large, how fast, at which revision."""

    kind: str  # sqlite | postgresql
    bytes: int
    revision: str
    wanted_revision: str
    read_ms: float
    commit_ms: float
    connections: int | None  # None: there is no limit to come near to
    connections_allowed: int | None

    @property
    def is_current(self) -> bool:
        """Tell whether every migration has been run."""
        return self.revision == self.wanted_revision


def look_at_store(session: Session) -> StoreLook:
    """Measure the store through an open reading."""
    kind = session.get_bind().dialect.name
    started = time.perf_counter()
    session.execute(text("SELECT 1 FROM organization LIMIT 1"))
    read_ms = (time.perf_counter() - started) * 1000
    used, allowed = _connections(session) if kind == "postgresql" else (None, None)
    return StoreLook(
        kind=kind,
        bytes=_size(session, kind),
        revision=_revision(session),
        wanted_revision=migrating.newest(),
        read_ms=round(read_ms, 2),
        commit_ms=round(_commit_ms(), 2),
        connections=used,
        connections_allowed=allowed,
    )


def is_current(session: Session) -> bool:
    """Tell whether every migration has been run; raises StoreUnavailable."""
    session.execute(text("SELECT 1 FROM organization LIMIT 1"))
    return _revision(session) == migrating.newest()


def _commit_ms() -> float:
    """Write a row as it is: the store must bring it to the disk all the same."""
    started = time.perf_counter()
    write(_touch)
    return (time.perf_counter() - started) * 1000


def _touch(session: Session) -> None:
    session.execute(update(HEARTBEAT).values(beat_at=HEARTBEAT.c.beat_at))


def _size(session: Session, kind: str) -> int:
    if kind == "postgresql":
        wanted = "SELECT pg_database_size(current_database())"
        return int(session.execute(text(wanted)).scalar_one())
    pages = session.execute(text("PRAGMA page_count")).scalar_one()
    return int(pages) * int(session.execute(text("PRAGMA page_size")).scalar_one())


def _revision(session: Session) -> str:
    try:
        return str(session.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")
    except DBAPIError:  # the table is not there, or not for our role
        return ""


def _connections(session: Session) -> tuple[int, int]:
    row: Any = session.execute(
        text(
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
            " current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
        )
    ).one()
    return int(row[0]), int(row[1])


@dataclass(frozen=True, slots=True)
class BrokerLook:
    """The bell: without it work is found by looking, later, and none is lost."""

    kind: str  # memory | amqp
    is_reachable: bool
    away_since: datetime | None  # as far as this process has noticed
    rung: int  # bells of this process since it started
    lost: int


_ping_lock = threading.Lock()
_pinged: dict[str, tuple[float, bool]] = {}
_away_since: datetime | None = None


def look_at_broker() -> BrokerLook:
    """Ask the broker whether it is there, at most every few seconds."""
    global _away_since
    url = settings().broker_url
    bells = queue.bells()
    if url.startswith(queue.MEMORY):
        return BrokerLook("memory", True, None, bells.rung, bells.lost)
    with _ping_lock:
        at, is_there = _pinged.get(url, (-PING_KEPT_SECONDS, False))
        if time.monotonic() - at > PING_KEPT_SECONDS:
            is_there = queue.is_reachable(PING_SECONDS)
            _pinged[url] = (time.monotonic(), is_there)
        _away_since = None if is_there else _away_since or bells.lost_since or clock.now()
        return BrokerLook("amqp", is_there, _away_since, bells.rung, bells.lost)


@dataclass(frozen=True, slots=True)
class DiskLook:
    """The disk under the hub's own files."""

    free_bytes: int
    total_bytes: int

    @property
    def used_percent(self) -> int:
        """How full it is, in hundredths, rounded down."""
        return int(100 * (1 - self.free_bytes / self.total_bytes)) if self.total_bytes else 0


def look_at_disk() -> DiskLook:
    """Look at the disk that holds the data folder."""
    folder = Path(settings().data_dir).resolve()
    while not folder.exists():
        folder = folder.parent
    found = shutil.disk_usage(folder)
    return DiskLook(found.free, found.total)
