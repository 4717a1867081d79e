"""Drain: routes ready events and drives what they cause, until nothing is ready.

Routing never waits for the network: first attempts, follow-ups and the stages run beside it in a
few threads, and targets that are known to be slow have a lane of their own.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass

from sqlmodel import Session

from kernel import log
from kernel.database import EVERY, reading, write
from kernel.settings import settings
from webhooks import (
    attempts,
    batches,
    carrying,
    lanes,
    leases,
    ordered,
    pressure,
    ready,
    workers,
)
from webhooks.attempts import Send
from webhooks.fan_out import Routed


@dataclass(frozen=True)
class Stage:
    """What else moves: rows that fell due, whatever they are.

    `is_due` looks for them without writing; `move` gets the worker id, moves on what is ready in
    its own tables (claim, commit, call, record) and returns how many rows it moved, or AGAIN.
    """

    name: str
    is_due: Callable[[Session], bool]
    move: Callable[[str], int]


# Said by a stage that moved nothing and shall look again in a moment.
AGAIN = -1
# Filled by the composition root. Stages run beside the routing.
STAGES: list[Stage] = []

POLL_SECONDS = 0.1
# For so long, after the last piece of work, a drain looks for more by itself: longer than the gap
# between two rings of a bell, so that a steady stream needs next to no bells.
LINGER_SECONDS = 0.15
LOOKS = 10
# What the workers leave lying for so long, others take up.
LEFT_SECONDS = 5.0
FEW, GATHER_SECONDS = 10, 0.02
PROBE_SECONDS = 1.0
SAME_STAGE = 3
_logger = log.get_logger(__name__)


class _Bench:
    """Where this process drains: one at a time, woken by whoever brings or finishes something."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_taken = False
        self.wake = threading.Event()

    def ring(self) -> bool:
        """Wake the present drain; False when there is none."""
        with self.lock:
            if self.is_taken:
                self.wake.set()
            return self.is_taken

    def sit_down(self) -> bool:
        with self.lock:
            if self.is_taken:
                self.wake.set()
                return False
            self.is_taken = True
            return True

    def get_up(self) -> bool:
        """Leave, unless somebody rang in the last moment."""
        with self.lock:
            self.is_taken = self.wake.is_set()
            return not self.is_taken

    def give_up(self) -> None:
        with self.lock:
            self.is_taken = False


_bench = _Bench()
_stopping = threading.Event()


def _forget() -> None:
    """Drop what a fork must not share: locks of the parent."""
    global _bench, _stopping
    _bench, _stopping = _Bench(), threading.Event()


os.register_at_fork(after_in_child=_forget)


def drain_here() -> int:
    """Drain unless this process already does; then that drain looks once more before it ends."""
    moved = 0
    if _stopping.is_set() or not _bench.sit_down():
        return moved
    try:
        while True:
            moved += drain(workers.name())
            if _stopping.is_set():
                _bench.give_up()
                return moved
            _linger()
            if _bench.get_up():
                return moved
    except BaseException:
        _bench.give_up()
        raise


def _linger() -> None:
    """Wait a little for more: told by this process, and on a shared store by looking."""
    if settings().mode == "embedded":
        _bench.wake.wait(LINGER_SECONDS)
        return
    for _ in range(LOOKS):
        if _bench.wake.wait(LINGER_SECONDS / LOOKS):
            return
        with reading(EVERY) as session:
            if ready.is_any(session):
                _bench.wake.set()


def stop(patience_seconds: float = 0) -> None:
    """Begin nothing new in this process, and wait a while for what is being sent to be recorded.

    For a process that is asked to end: what it leaves as it is goes out again from another one.
    """
    _stopping.set()
    _bench.wake.set()
    deadline = time.monotonic() + patience_seconds
    while _bench.is_taken and time.monotonic() < deadline:
        time.sleep(0.02)
    if carrying.wait_until_done(max(0.0, deadline - time.monotonic())) and patience_seconds:
        workers.sign_off()


def is_stopping() -> bool:
    """Tell whether this process was asked to end."""
    return _stopping.is_set()


def is_under_way() -> bool:
    """Tell whether this process is draining just now."""
    return _bench.is_taken


def ring() -> bool:
    """Tell the drain of this process that something came in; False when none is under way."""
    return _bench.ring()


def sweep() -> int:
    """Take back what nobody works on any more and drain what a lost nudge left behind."""
    taken_back = workers.release(workers.gone())
    with reading(EVERY) as session:
        is_over, is_overdue = leases.is_lease_over(session), ready.is_overdue(session)
    taken_back += write(leases.reclaim) if is_over else 0
    taken_back += write(ready.bring_back) if is_overdue else 0
    return taken_back + drain_here()


def sweep_for_others() -> int:
    """Sweep for a process whose work is another: drain what nobody else does."""
    if workers.is_any_draining():
        if pressure.is_busy_here():
            return 0
        with reading(EVERY) as session:
            if not ready.is_left(session, LEFT_SECONDS):
                return 0
    return sweep()


def drain(worker_id: str, send: Send = attempts.send_together) -> int:
    """Route all ready events and run the stages until nothing is ready; returns rows moved."""
    return _Drain(worker_id, send).run()


class _Drain:
    """One drain: the batch being routed, and the jobs that run beside it."""

    def __init__(self, worker_id: str, send: Send) -> None:
        self.worker_id = worker_id
        self.send = send
        self.moved = 0
        self.wake = _bench.wake
        self.jobs: dict[Future[int], tuple[str, float]] = {}  # name and start
        self.stages = {stage.name: stage for stage in (*self._own_stages(), *STAGES)}
        self.unsure = set(self.stages)  # stages that may have something to do
        self.again: set[str] = set()  # stages that moved nothing and shall look again
        self.probed_at = self.retried_at = time.monotonic()
        self.rests_until = 0.0
        self.spent: list[float] = []  # seconds of processor time, by jobs that ended

    def _own_stages(self) -> tuple[Stage, ...]:
        return (
            Stage("due", leases.is_delivery_due, lambda _: self._send_due(is_slow=False)),
            Stage(
                "slow",
                lambda session: bool(carrying.pace.slow()) and leases.is_delivery_due(session),
                lambda _: self._send_due(is_slow=True),
            ),
            Stage("ordered", lanes.is_due, lambda _: self._send_ordered(is_slow=False)),
            Stage(
                "ordered-slow",
                lambda session: bool(carrying.pace.slow()) and lanes.is_due(session),
                lambda _: self._send_ordered(is_slow=True),
            ),
        )

    def run(self) -> int:
        may_be_new = True
        try:
            while not _stopping.is_set():
                self.wake.clear()
                rest = max(0.0, self.rests_until - time.monotonic())
                count = self._route_and_tire() if may_be_new and not rest else 0
                self._start_stages(is_busy=bool(count))
                if 0 < count < FEW:
                    # a batch costs about the same however small: let the next one gather
                    time.sleep(GATHER_SECONDS)
                elif rest:
                    _stopping.wait(min(rest, POLL_SECONDS))
                elif not count and self.jobs:
                    self.wake.wait(POLL_SECONDS)
                self._collect()
                may_be_new = bool(count or rest) or self.wake.is_set() or self._probe()
                if not (may_be_new or self.jobs or self.unsure):
                    break
        finally:
            wait(self.jobs)
        return self.moved

    def _route_and_tire(self) -> int:
        """Route a batch; what that and carrying it out took is followed by a rest (pressure)."""
        began = time.thread_time()
        count = batches.route(self.worker_id, self._go_on)
        ended, self.spent = self.spent, []
        spent = time.thread_time() - began + sum(ended)
        self.rests_until = time.monotonic() + pressure.rest_after(spent)
        return count

    def _go_on(self, routed: Routed) -> None:
        self.moved += routed.count
        if routed.is_rest_due:
            self.unsure = set(self.stages)
        if routed.is_ordered:
            self.unsure.add("ordered")
        for job in carrying.carry(routed, self.send, self._spend):
            limited = "limited" if routed.is_limited else "carry"
            self._watch("in order" if routed.lets_others_go else limited, job)

    def _spend(self, seconds: float) -> None:
        self.spent.append(seconds)

    def _start(self, name: str, work: Callable[[], int]) -> None:
        self._watch(name, carrying.threads().submit(work))

    def _watch(self, name: str, job: Future[int]) -> None:
        self.jobs[job] = (name, time.monotonic())
        job.add_done_callback(lambda _: self.wake.set())

    def _probe(self) -> bool:
        """While something slow is under way, look every second for what came up meanwhile."""
        if time.monotonic() - self.probed_at < PROBE_SECONDS:
            return False
        self.probed_at = time.monotonic()
        self.unsure = set(self.stages)
        return True

    def _may_start(self, name: str) -> bool:
        """Let a stage run beside itself when it hangs, a few times."""
        starts = [start for other, start in self.jobs.values() if other == name]
        is_hanging = bool(starts) and time.monotonic() - max(starts) > PROBE_SECONDS / 2
        return not starts or (is_hanging and len(starts) < SAME_STAGE)

    def _start_stages(self, *, is_busy: bool) -> None:
        # while events are flowing, retries can wait for the next breath, but not for long
        rests = is_busy and time.monotonic() - self.retried_at < PROBE_SECONDS
        names = sorted(filter(self._may_start, self.unsure - ({"due", "slow"} if rests else set())))
        if not names:
            return
        if not rests:
            self.retried_at = time.monotonic()
        able = [self.stages[name] for name in names]
        with reading(EVERY) as session:
            due = [stage for stage in able if stage.is_due(session)]
        self.unsure -= {stage.name for stage in able}
        for stage in due:
            self._start(stage.name, lambda stage=stage: stage.move(self.worker_id))  # type: ignore[misc]

    def _collect(self) -> None:
        for job in [job for job in self.jobs if job.done()]:
            name, _ = self.jobs.pop(job)
            try:
                count = job.result()
            except Exception:
                _logger.exception("stage_failed", stage=name)
                continue
            self.moved += max(count, 0)
            if name == "in order":
                self.unsure = set(self.stages)
            elif (count or name in self.again) and (name in self.stages or name == "limited"):
                self.unsure.add("due" if name == "limited" else name)
                self.again.discard(name)

    def _send_due(self, *, is_slow: bool) -> int:
        slow = carrying.pace.slow()
        if is_slow and not slow:
            return 0
        parcels = write(
            lambda session: attempts.claim_due(session, self.worker_id, slow, is_slow=is_slow)
        )
        return carrying.send_and_record(parcels, self.send) if parcels else 0

    def _send_ordered(self, *, is_slow: bool) -> int:
        """Send what is due in lanes, each endpoint's in a thread of its own."""
        slow = carrying.pace.slow()
        if is_slow and not slow:
            return 0
        found = write(lambda s: ordered.claim(s, self.worker_id, slow, is_slow=is_slow))
        if found.is_blocked and not found.endpoints:
            time.sleep(GATHER_SECONDS)
            self.again.add("ordered")
        sends = [
            carrying.threads().submit(carrying.record_all, ordered.send(some, self.send))
            for some in found.endpoints
        ]
        return sum(job.result() for job in sends)
