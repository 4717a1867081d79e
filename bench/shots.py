"""One measurement: fire loads at a system, wait until everything arrived, read the figures off."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import processes
from bench.ledger import CAPACITY, Ledger
from bench.load import Load, Outcome, Plan
from bench.rigs import Rig
from bench.target import Target

PATIENCE_SECONDS = 20  # without a single arrival; then what is missing counts as lost
SETTLE_SECONDS = 0.3  # for what is written down after the last arrival, and for late copies


@dataclass(frozen=True)
class Shot:
    """What to fire: `rate` in events a second for an open load, 0 for as fast as it goes."""

    events: int
    doors: Sequence[str]
    connections: int = 16
    batch: int = 1
    rate: float = 0


@dataclass(frozen=True)
class Costs:
    """What one shot cost."""

    cpu_ms_per_event: float  # of the system, with its servers
    driver_cpu_ms_per_event: float  # of the load and the target
    elsewhere_cpus: float  # how many CPUs everything else kept busy meanwhile


@dataclass(frozen=True)
class Figures(Costs):
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
    refusals: str  # statuses other than 2xx, and how often

    def line(self) -> str:
        """Say it in one line."""
        trouble = [
            f"{count} {word}"
            for count, word in (
                (self.lost, "LOST"),
                (self.duplicates, "twice"),
                (self.refused, f"refused ({self.refusals})"),
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

    def fire(self, rig: Rig, shot: Shot) -> Figures:
        """Fire one shot and measure it."""
        return self.fire_together(rig, [shot])[0]

    def fire_together(self, rig: Rig, shots: Sequence[Shot]) -> list[Figures]:
        """Fire several shots at once; what CPU they cost is shared out over all their events."""
        before, started = self._meters(rig), time.monotonic()
        sent = self._send(rig, shots)
        self._wait_for_arrival([plan for plan, _ in sent])
        time.sleep(SETTLE_SECONDS)
        system, target, machine = (
            after - was for after, was in zip(self._meters(rig), before, strict=True)
        )
        driver = target + sum(outcome.cpu_seconds for _, outcome in sent)
        events = sum(shot.events for shot in shots)
        costs = Costs(
            cpu_ms_per_event=system * 1000 / events,
            driver_cpu_ms_per_event=driver * 1000 / events,
            elsewhere_cpus=max(0, machine - system - driver) / (time.monotonic() - started),
        )
        return [self._figures(plan, outcome, costs) for plan, outcome in sent]

    def _meters(self, rig: Rig) -> tuple[float, float, float]:
        """Read the CPU time used so far: by the system, by the target, by everything."""
        return rig.cpu_seconds(), self.target.cpu_seconds(), processes.busy_seconds()

    def fire_for_intake(self, rig: Rig, shot: Shot) -> float:
        """Fire one shot, wait for no arrival, and return how many events a second were accepted."""
        ((plan, outcome),) = self._send(rig, [shot])
        accepted = self._accepted(plan)
        if not accepted:
            raise RuntimeError(f"nothing was accepted; the answers were {outcome.statuses}")
        start = min(self.ledger.sent[n] for n in accepted)
        return len(accepted) / (max(self.ledger.answered[n] for n in accepted) - start)

    def _send(self, rig: Rig, shots: Sequence[Shot]) -> list[tuple[Plan, Outcome]]:
        with ExitStack() as started:
            loads = []
            for shot in shots:
                plan = self._plan(rig, shot)
                load = Load(plan)
                started.callback(load.stop)
                loads.append((plan, load))
            for _, load in loads:
                load.go()
            return [(plan, load.outcome()) for plan, load in loads]

    def _plan(self, rig: Rig, shot: Shot) -> Plan:
        """Give a shot its own numbers."""
        first, self._next = self._next, self._next + shot.events
        if self._next > CAPACITY:
            raise RuntimeError("the ledger is full")
        return Plan(
            ledger=str(self.ledger.path),
            doors=[rig.doors[door] for door in shot.doors],
            first=first,
            events=shot.events,
            connections=shot.connections,
            batch=shot.batch,
            rate=shot.rate,
            seed=self.seed,
        )

    def _wait_for_arrival(self, plans: Sequence[Plan]) -> None:
        """Wait until all that was accepted has arrived, or nothing has for a while."""
        missing = [n for plan in plans for n in self._accepted(plan)]
        moved_at, arrivals = time.monotonic(), -1
        while missing and time.monotonic() - moved_at < PATIENCE_SECONDS:
            if self.ledger.arrivals != arrivals:
                moved_at, arrivals = time.monotonic(), self.ledger.arrivals
                missing = [n for n in missing if not self.ledger.copies[n]]
            else:
                time.sleep(0.02)

    def _figures(self, plan: Plan, outcome: Outcome, costs: Costs) -> Figures:
        ledger, accepted = self.ledger, self._accepted(plan)
        arrived = [n for n in accepted if ledger.copies[n]]
        if not arrived:
            raise RuntimeError(f"nothing arrived; the answers were {outcome.statuses}")
        start = min(ledger.sent[n] for n in accepted)
        delays = sorted((ledger.arrived[n] - ledger.sent[n]) * 1000 for n in arrived)
        return Figures(
            events=plan.events,
            accepted=len(accepted),
            refused=plan.events - len(accepted),
            lost=len(accepted) - len(arrived),
            duplicates=sum(max(0, ledger.copies[n] - 1) for n in accepted),
            reconnects=outcome.reconnects,
            events_per_s=len(arrived) / (max(ledger.arrived[n] for n in arrived) - start),
            ingest_per_s=len(accepted) / (max(ledger.answered[n] for n in accepted) - start),
            p50_ms=share(delays, 0.5),
            p99_ms=share(delays, 0.99),
            refusals=", ".join(
                f"{count} × {status}"
                for status, count in outcome.statuses.items()
                if not status.startswith("2")
            ),
            **asdict(costs),
        )

    def _accepted(self, plan: Plan) -> list[int]:
        numbers = range(plan.first, plan.first + plan.events)
        return [n for n in numbers if self.ledger.answered[n]]

    def stop(self) -> None:
        """End the target."""
        self.target.stop()
        self.ledger.close()


def share(ordered: Sequence[float], part: float) -> float:
    """Return the value that `part` of an ordered list does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
