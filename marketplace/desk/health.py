"""Health: one look at the whole hub. The page, the JSON, /metrics, /readyz and `yangfan doctor`
all show what is found here.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from kernel import clock
from kernel.database import store_now
from kernel.settings import VERSION, settings
from marketplace.desk import counts, machinery, throughput
from marketplace.desk.counts import Counts
from marketplace.desk.machinery import BrokerLook, DiskLook, StoreLook
from marketplace.desk.throughput import Throughput
from webhooks import workers
from webhooks.keeping import turns
from webhooks.workers import Sign


@dataclass(frozen=True, slots=True)
class Health:
    """How the hub is at one moment; `store` None: it cannot be reached, and nothing was counted."""

    at: datetime
    mode: str
    version: str
    broker: BrokerLook
    disk: DiskLook
    store: StoreLook | None = None
    archive: str | None = None  # what keeps the archive from being written
    processes: tuple[Sign, ...] = ()
    counts: Counts | None = None
    throughput: Throughput | None = None

    @property
    def waits_seconds(self) -> float:
        """How long the oldest event has waited to be routed."""
        oldest = self.counts.oldest_at if self.counts else None
        return max(0.0, (self.at - oldest).total_seconds()) if oldest else 0.0


def examine(session: Session) -> Health:
    """Look at everything through an open reading over every organization."""
    return Health(
        at=store_now(session),
        mode=settings().mode,
        version=VERSION,
        broker=machinery.look_at_broker(),
        disk=machinery.look_at_disk(),
        store=machinery.look_at_store(session),
        archive=turns.trouble(session),
        processes=tuple(workers.signs(session)),
        counts=counts.take(session),
        throughput=throughput.look(session),
    )


def readiness(session: Session) -> dict[str, str]:
    """Say in a few words, cheap enough to be asked every second, whether events can be stored."""
    return {
        "mode": settings().mode,
        "version": VERSION,
        "archive": turns.trouble(session) or "ok",
        "migrations": "ok" if machinery.is_current(session) else "missing",
    }


def without_store() -> Health:
    """Look at what can be seen while the store is away."""
    return Health(
        at=clock.now(),
        mode=settings().mode,
        version=VERSION,
        broker=machinery.look_at_broker(),
        disk=machinery.look_at_disk(),
    )
