"""Carrying: what a process has routed it also carries out, in a few threads beside its other work.

Deliveries that were leased to it are sent and written down as answers come; follow-ups of other
packages run along. There is room for so much at once; what finds none is left as due.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from kernel import log
from kernel.database import StoreUnavailable
from webhooks import attempts, results, usage, youth
from webhooks.attempts import Batch, Send
from webhooks.fan_out import FIRST_ATTEMPTS, Routed
from webhooks.pace import Pace
from webhooks.parcels import Parcel

THREADS = 16
# Jobs of this kind wait for the network most of the time; the other threads are for the stages.
MOST_JOBS = 10
MOST_ROWS = 800
# Whoever died a moment ago may die again, and all that it holds then is suspected of having killed
# it. So a process takes little at once until it has lived for a while.
YOUNG_SECONDS, YOUNG_ROWS = 60.0, 100
_RECORD_TRIES = 3
_logger = log.get_logger(__name__)


class _Load:
    """How much this process carries."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.jobs = self.rows = 0

    def add(self, jobs: int, rows: int) -> None:
        with self.changed:
            self.jobs += jobs
            self.rows += rows
            if jobs < 0:
                self.changed.notify_all()


pace = Pace()
_pool: ThreadPoolExecutor | None = None
_load = _Load()


def _forget() -> None:
    """Drop what a fork must not share: threads and locks."""
    global _pool, _load
    _pool, _load = None, _Load()


os.register_at_fork(after_in_child=_forget)


def threads() -> ThreadPoolExecutor:
    """Return the threads that carrying and the stages of a drain share."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="carry")
    return _pool


def room() -> int:
    """Tell how many more rows of a kind may be leased to this process at once."""
    if _load.jobs >= MOST_JOBS:
        return 0
    return max(0, min(FIRST_ATTEMPTS, _most_rows() - _load.rows))


def _most_rows() -> int:
    return YOUNG_ROWS if youth.age_seconds() < YOUNG_SECONDS else MOST_ROWS


def wait_for_room(rows: int, seconds: float) -> int:
    """Wait a while until there is room for so many rows, or for as many as there ever is."""
    wanted = min(rows, FIRST_ATTEMPTS, _most_rows())
    with _load.changed:
        _load.changed.wait_for(lambda: room() >= wanted, seconds)
    return room()


def wait_until_done(seconds: float) -> bool:
    """Wait a while until nothing is being carried; False when something still is."""
    with _load.changed:
        return _load.changed.wait_for(lambda: not _load.jobs, seconds)


def carry(
    routed: Routed,
    send: Send = attempts.send_together,
    spend: Callable[[float], object] | None = None,
) -> list[Future[int]]:
    """Start what came of a routed batch; each future tells how many rows were moved.

    `spend` is told how many seconds of processor time each took.
    """
    jobs: list[Future[int]] = []
    for organization_id, count in routed.tally.items():
        usage.add(organization_id, None, routed=count)
    if routed.leased:
        jobs.append(_start(partial(_send_routed, routed, send), len(routed.leased), spend))
    jobs += [_start(follow_up, routed.count, spend) for follow_up in routed.follow_ups]
    return jobs


def _start(
    work: Callable[[], int], rows: int, spend: Callable[[float], object] | None
) -> Future[int]:
    _load.add(1, rows)
    load = _load
    try:
        job = threads().submit(_timed, work, spend) if spend else threads().submit(work)
    except BaseException:
        load.add(-1, -rows)
        raise
    job.add_done_callback(lambda _: load.add(-1, -rows))
    return job


def _timed(work: Callable[[], int], spend: Callable[[float], object]) -> int:
    began = time.thread_time()
    try:
        return work()
    finally:
        spend(time.thread_time() - began)


def _send_routed(routed: Routed, send: Send) -> int:
    return send_and_record(routed.parcels(), send)


def send_and_record(parcels: list[Parcel], send: Send = attempts.send_together) -> int:
    """Send leased parcels and write down what came of them; returns how many were tried."""
    # who has not answered before, or not promptly, must not hold up the others
    groups = pace.prompt_first(parcels)
    return sum(record_all(attempts.send_waves(group, send)) for group in groups if group)


def record_all(batches: Iterable[Batch]) -> int:
    """Write down what each batch brought, as they come; returns how many were tried."""
    return sum(_record(batch) for batch in batches)


def _record(batch: Batch) -> int:
    pace.learn(batch)
    for left in range(_RECORD_TRIES - 1, -1, -1):
        try:
            return results.write_down(batch)
        except StoreUnavailable:
            if not left:
                raise  # the leases run out and the deliveries go out again, under their ids
            time.sleep(0.5)
    return 0
