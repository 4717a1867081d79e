"""One measurement: fire a load at a system, wait until everything arrived, read the figures off."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.ledger import CAPACITY, Ledger
from bench.load import Door, Load, Outcome, Plan
from bench.rigs import Rig
from bench.target import Target

PATIENCE_SECONDS = 20  # without a single arrival; then what is missing counts as lost
SETTLE_SECONDS = 0.5  # for what is written down after the last arrival, and for late copies


@dataclass(frozen=True)
class Shot:
    """What to fire: `rate` in events a second for an open load, 0 for as fast as it goes."""

    events: int
    connections: int = 16
    batch: int = 1
    rate: float = 0


@dataclass(frozen=True)
class Figures:
    """What one shot measured."""

    events: int
    accepted: int
    refused: int
    lost: int
    duplicates: int
    reconnects: int
    events_per_s: float  # last arrival − first send
    ingest_per_s: float  # last answer − first send
    p50_ms: float  # from send (open load: from when it was due) to arrival
    p99_ms: float
    cpu_ms_per_event: float
    driver_cpu_ms_per_event: float

    def line(self) -> str:
        """Say it in one line."""
        trouble = [
            f"{count} {word}"
            for count, word in (
                (self.lost, "LOST"),
                (self.duplicates, "twice"),
                (self.refused, "refused"),
                (self.reconnects, "reconnects"),
            )
            if count
        ]
        return (
            f"{self.events_per_s:7.0f} ev/s  in {self.ingest_per_s:6.0f}/s  "
            f"p50 {self.p50_ms:7.1f} ms  p99 {self.p99_ms:7.1f} ms  "
            f"CPU {self.cpu_ms_per_event:5.2f} ms/ev {', '.join(trouble)}"
        ).rstrip()


class Range:
    """The target, the ledger, and the event numbers that were not used yet."""

    def __init__(self, ledger: Path, *, seed: int) -> None:
        self.ledger = Ledger(ledger)
        self.target = Target(ledger)
        self.seed = seed
        self._next = 0

    def plan(self, doors: Sequence[Door], shot: Shot) -> Plan:
        """Give a shot its own numbers."""
        first, self._next = self._next, self._next + shot.events
        if self._next > CAPACITY:
            raise RuntimeError("the ledger is full")
        return Plan(
            ledger=str(self.ledger.path),
            doors=doors,
            first=first,
            events=shot.events,
            connections=shot.connections,
            batch=shot.batch,
            rate=shot.rate,
            seed=self.seed,
        )

    def fire(self, rig: Rig, door: str, shot: Shot, *, patience_seconds: float = 0) -> Figures:
        """Fire one shot and measure it."""
        plan = self.plan([rig.doors[door]], shot)
        load = Load(plan)
        before = rig.cpu_seconds()
        try:
            load.go()
            outcome = load.outcome()
        finally:
            load.stop()
        self.wait([plan], patience_seconds or PATIENCE_SECONDS)
        time.sleep(SETTLE_SECONDS)
        return self.figures(plan, outcome, rig.cpu_seconds() - before)

    def wait(self, plans: Sequence[Plan], patience_seconds: float) -> None:
        """Wait until all that was accepted has arrived, or nothing has for a while."""
        missing = [n for plan in plans for n in _accepted(self.ledger, plan)]
        moved_at, arrivals = time.monotonic(), -1
        while missing and time.monotonic() - moved_at < patience_seconds:
            if self.ledger.arrivals != arrivals:
                moved_at, arrivals = time.monotonic(), self.ledger.arrivals
                missing = [n for n in missing if not self.ledger.copies[n]]
            else:
                time.sleep(0.02)

    def figures(self, plan: Plan, outcome: Outcome, cpu_seconds: float) -> Figures:
        """Read the figures of a shot off the ledger."""
        ledger, numbers = self.ledger, range(plan.first, plan.first + plan.events)
        accepted = _accepted(ledger, plan)
        arrived = [n for n in accepted if ledger.copies[n]]
        if not arrived:
            raise RuntimeError(f"nothing arrived; the answers were {outcome.statuses}")
        start = min(ledger.sent[n] for n in numbers if ledger.sent[n])
        delays = sorted((ledger.arrived[n] - ledger.sent[n]) * 1000 for n in arrived)
        return Figures(
            events=plan.events,
            accepted=len(accepted),
            refused=plan.events - len(accepted),
            lost=len(accepted) - len(arrived),
            duplicates=sum(max(0, ledger.copies[n] - 1) for n in numbers),
            reconnects=outcome.reconnects,
            events_per_s=len(arrived) / (max(ledger.arrived[n] for n in arrived) - start),
            ingest_per_s=len(accepted) / (max(ledger.answered[n] for n in accepted) - start),
            p50_ms=share(delays, 0.5),
            p99_ms=share(delays, 0.99),
            cpu_ms_per_event=cpu_seconds * 1000 / len(arrived),
            driver_cpu_ms_per_event=outcome.cpu_seconds * 1000 / plan.events,
        )

    def stop(self) -> None:
        """End the target."""
        self.target.stop()
        self.ledger.close()


def share(ordered: Sequence[float], part: float) -> float:
    """Return the value that `part` of an ordered list does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _accepted(ledger: Ledger, plan: Plan) -> list[int]:
    return [n for n in range(plan.first, plan.first + plan.events) if ledger.answered[n]]
