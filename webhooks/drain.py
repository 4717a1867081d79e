"""Drain: takes ready events under a lease, routes them and drives every stage behind them.

Routing never waits for the network: sending and the stages run beside it in a few threads, and
targets that are known to be slow have a lane of their own.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from sqlalchemy import update
from sqlmodel import Session

from kernel import log
from kernel.database import EVERY, StoreUnavailable, reading, store_now, write
from kernel.errors import N_, Problem
from webhooks import attempts, fan_out, leases, workers
from webhooks.attempts import Batch, Send
from webhooks.parcels import Parcel
from webhooks.tables import EVENT

Stage = Callable[[str], int]

# Each gets the worker id, moves on what is ready in its own tables (claim, commit, call, record)
# and returns how many rows it moved; 0 means nothing is ready. Stages run beside the routing.
STAGES: list[Stage] = []

THREADS = 16
BATCHES_IN_FLIGHT = 6
POLL_SECONDS = 0.1
FEW, GATHER_SECONDS = 10, 0.02
PROBE_SECONDS = 1.0
SAME_STAGE = 3
SLOW_MS = 2000
SLOW_FOR_SECONDS = 600
_RECORD_TRIES = 3
_logger = log.get_logger(__name__)


class _Pace:
    """What this process learned about slow targets; forgotten after a while or a prompt answer."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def slow(self) -> frozenset[str]:
        now = time.monotonic()
        with self._lock:
            self._until = {key: until for key, until in self._until.items() if until > now}
            return frozenset(self._until)

    def learn(self, batch: Batch) -> None:
        until = time.monotonic() + SLOW_FOR_SECONDS
        with self._lock:
            for tried in batch.tried:
                if tried.elapsed_ms > SLOW_MS:
                    self._until[tried.parcel.target.id] = until
                else:
                    self._until.pop(tried.parcel.target.id, None)


pace = _Pace()
_pool: ThreadPoolExecutor | None = None
_busy = threading.Lock()
_wanted = threading.Event()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="drain")
    return _pool


def _forget() -> None:
    """Drop what a fork must not share: threads and locks of the parent."""
    global _pool, _busy, _wanted
    _pool, _busy, _wanted = None, threading.Lock(), threading.Event()


os.register_at_fork(after_in_child=_forget)


def drain_here() -> int:
    """Drain unless this process already does; then that drain looks once more before it ends."""
    moved = 0
    _wanted.set()
    while _wanted.is_set():
        if not _busy.acquire(blocking=False):
            return moved
        try:
            _wanted.clear()
            moved += drain(workers.name())
        finally:
            _busy.release()
    return moved


def sweep() -> int:
    """Take back what nobody works on any more and drain what a lost nudge left behind."""
    taken_back = workers.release(workers.gone())
    with reading(EVERY) as session:
        is_over = leases.is_lease_over(session)
    taken_back += write(leases.reclaim) if is_over else 0
    return taken_back + drain_here()


def drain(worker_id: str, send: Send = attempts.send_together) -> int:
    """Route all ready events and run the stages until nothing is ready; returns rows moved."""
    return _Drain(worker_id, send).run()


class _Drain:
    """One drain: the batch being routed, and the jobs that run beside it."""

    def __init__(self, worker_id: str, send: Send) -> None:
        self.worker_id = worker_id
        self.send = send
        self.moved = 0
        self.jobs: dict[Future[int], tuple[str, float]] = {}  # name and start
        self.stages: dict[str, Stage] = {
            "due": lambda _: self._send_due(is_slow=False),
            "slow": lambda _: self._send_due(is_slow=True),
        }
        self.stages |= {f"stage-{n}": stage for n, stage in enumerate(STAGES)}
        self.unsure = set(self.stages)  # stages that may have something to do
        self.probed_at = time.monotonic()

    def run(self) -> int:
        try:
            claimed = self._claim()
            while True:
                if claimed:
                    if self.moved and len(claimed) < FEW:
                        # a batch costs about the same however small: let the next one gather
                        time.sleep(GATHER_SECONDS)
                    claimed = self._route(claimed)
                self._start_stages(may_wait=bool(claimed))
                if self.jobs:
                    self._probe()
                    self._collect(0 if claimed else POLL_SECONDS)
                if not claimed:
                    claimed = self._claim()
                if not claimed and not self.jobs and not self.unsure:
                    return self.moved
        finally:
            wait(self.jobs)

    def _claim(self) -> list[dict[str, Any]]:
        with reading(EVERY) as session:
            if not leases.is_event_ready(session):
                return []
        return write(lambda session: leases.claim_events(session, self.worker_id))

    def _route(self, claimed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Route a batch and claim the next one in the same commit."""
        slow, keep = pace.slow(), self._room()

        def work(session: Session) -> tuple[list[Parcel], list[dict[str, Any]]]:
            parcels = fan_out.route(session, self.worker_id, claimed, slow, keep)
            return parcels, leases.claim_events(session, self.worker_id)

        try:
            parcels, following = write(work)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one bad event must not stop the others
            _logger.warning("batch_not_routed", error=str(error)[:300])
            self._route_each(claimed)
            return []
        self._routed(claimed, parcels)
        return following

    def _route_each(self, claimed: list[dict[str, Any]]) -> None:
        for row in claimed:
            try:
                parcels = write(
                    lambda session, row=row: fan_out.route(session, self.worker_id, [row])  # type: ignore[misc]
                )
            except StoreUnavailable:
                raise
            except Exception as error:
                _logger.exception("event_not_routed", event_id=row["id"])
                said = _what_happened(error)
                write(lambda session, row=row, said=said: self._mark(session, row, said))  # type: ignore[misc]
            else:
                self._routed([row], parcels)

    def _mark(self, session: Session, row: dict[str, Any], said: dict[str, Any]) -> None:
        """Note what went wrong; the event stays leased and comes back alone after that."""
        held = [(row["organization_id"], row["id"])]
        condition = leases.fence(EVENT, row["lease_owner"], held)
        session.execute(update(EVENT).where(condition).values(problem=said))

    def _routed(self, claimed: list[dict[str, Any]], parcels: list[Parcel]) -> None:
        self.moved += len(claimed)
        self.unsure = set(self.stages)
        if parcels:
            self._start("send", lambda: self._send(parcels))

    def _room(self) -> int:
        sending = sum(1 for name, _ in self.jobs.values() if name == "send")
        return fan_out.FIRST_ATTEMPTS if sending < BATCHES_IN_FLIGHT else 0

    def _start(self, name: str, work: Callable[[], int]) -> None:
        self.jobs[_threads().submit(work)] = (name, time.monotonic())

    def _probe(self) -> None:
        """While something slow is under way, look every second for what fell due meanwhile."""
        if time.monotonic() - self.probed_at > PROBE_SECONDS:
            self.probed_at = time.monotonic()
            self.unsure = set(self.stages)

    def _may_start(self, name: str) -> bool:
        """Let a stage run beside itself when it hangs, a few times."""
        starts = [start for other, start in self.jobs.values() if other == name]
        is_hanging = bool(starts) and time.monotonic() - max(starts) > PROBE_SECONDS / 2
        return not starts or (is_hanging and len(starts) < SAME_STAGE)

    def _start_stages(self, *, may_wait: bool) -> None:
        for name in sorted(filter(self._may_start, self.unsure)):
            # while events are flowing, retries can wait for the next breath
            if not (may_wait and name in ("due", "slow")):
                self.unsure.discard(name)
                stage = self.stages[name]
                self._start(name, lambda stage=stage: stage(self.worker_id))  # type: ignore[misc]

    def _collect(self, timeout_seconds: float) -> None:
        done, _ = wait(self.jobs, timeout=timeout_seconds, return_when=FIRST_COMPLETED)
        for job in done:
            name, _ = self.jobs.pop(job)
            try:
                count = job.result()
            except Exception:
                _logger.exception("stage_failed", stage=name)
                continue
            self.moved += count
            if count and name != "send":
                self.unsure.add(name)

    def _send(self, parcels: list[Parcel]) -> int:
        batch = attempts.send_batch(parcels, self.send)
        pace.learn(batch)
        for left in range(_RECORD_TRIES - 1, -1, -1):
            try:
                return write(lambda session: attempts.record(session, batch))
            except StoreUnavailable:
                if not left:
                    raise  # the leases run out and the deliveries go out again, under their ids
                time.sleep(0.5)
        return 0

    def _send_due(self, *, is_slow: bool) -> int:
        slow = pace.slow()
        if is_slow and not slow:
            return 0
        with reading(EVERY) as session:
            if not leases.is_delivery_due(session, store_now(session)):
                return 0
        parcels = write(
            lambda session: attempts.claim_due(session, self.worker_id, slow, is_slow=is_slow)
        )
        return self._send(parcels) if parcels else 0


def _what_happened(error: Exception) -> dict[str, Any]:
    if isinstance(error, Problem):
        return {"code": error.code, "detail": error.plain()[:500]}
    return {"code": "routing_failed", "detail": N_("A step of the hub failed on this event")}
