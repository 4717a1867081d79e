"""Pressure: how busy the hub is taking events in, so that whoever drains leaves it the machine.

The inbox tells how long something lay in it or was being stored. Once a second the ledger takes
that share of the second down and brings back the highest among all processes; draining then rests
so much longer between its batches, yet never stops.
"""

import os
import threading
import time

from sqlalchemy import select, update
from sqlmodel import Session

from kernel.database import store_now
from webhooks.tables import WORKER

# What is said holds for so long; a process that died under pressure must not hold others back.
SAID_SECONDS = 5
# The share of its time that draining keeps whatever comes in.
LEAST_SHARE = 0.1
LONGEST_REST_SECONDS = 1.0
# Measured: for each second of the drain's threads the senders and the database spend three more.
IN_ALL = 4
_LITTLE = 5  # percent; not worth a row being written


class _Gauge:
    """This process's intake since the last turn, and what was said of it and of all others."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worked = 0.0
        self.since = time.monotonic()
        self.own = self.said = self.highest = 0  # percent


_gauge = _Gauge()


def forget() -> None:
    """Feel no pressure, as a process that has just started."""
    global _gauge
    _gauge = _Gauge()


os.register_at_fork(after_in_child=forget)


def worked(seconds: float) -> None:
    """Note that something waited to be stored, or was, for so long."""
    with _gauge.lock:
        _gauge.worked += seconds


def turn() -> bool:
    """Work out this process's share since the last turn; True when others must be told of it."""
    now = time.monotonic()
    with _gauge.lock:
        passed = max(now - _gauge.since, 0.001)
        _gauge.own = min(100, round(100 * _gauge.worked / passed))
        _gauge.worked, _gauge.since = 0.0, now
        return max(_gauge.own, _gauge.said) > _LITTLE


def say(session: Session, worker_id: str) -> None:
    """Write down how busy this process is."""
    _gauge.said = _gauge.own
    session.execute(
        update(WORKER)
        .where(WORKER.c.id == worker_id)
        .values(busy_percent=_gauge.own, busy_at=store_now(session))
    )


def hear(session: Session) -> None:
    """Read how busy the busiest process is."""
    now = store_now(session)
    rows = session.execute(select(WORKER.c.busy_percent, WORKER.c.busy_at))
    fresh = [row[0] for row in rows if row[1] and (now - row[1]).total_seconds() < SAID_SECONDS]
    _gauge.highest = max([_gauge.own, *fresh])


def is_busy_here() -> bool:
    """Tell whether this process has enough to do with what comes in."""
    return _gauge.own > 100 * LEAST_SHARE * 2


def rest_after(seconds: float) -> float:
    """Return how long to rest after draining that took so many seconds of its threads' time.

    The share of time left to draining is the square of what the intake leaves: an intake that is
    half busy has the other half of its time in pieces too short to be given away.
    """
    share = max(LEAST_SHARE, (1 - _gauge.highest / 100) ** 2)
    return min(LONGEST_REST_SECONDS, seconds * IN_ALL * (1 / share - 1))
