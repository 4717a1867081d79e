"""One run of the bench: the systems that are up, the sizes, and what is told on the way."""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import servers
from bench.rigs import RIGS, Rig, Scaled, start_together
from bench.shots import Figures, Range, Shot, share

WARM_UP_EVENTS = 300
FEWEST_EVENTS, FEWEST_REQUESTS = 200, 40  # below that a shot says little


@dataclass(frozen=True)
class Sizes:
    """How much of everything; see QUICK and FULL."""

    rounds: int  # of the comparison with the baseline
    side_rounds: int  # of every other scenario
    connections: tuple[int, ...]  # the delays and the CPU time are those of the first
    shot_seconds: float  # about how long a full load lasts
    half_seconds: float
    memory_events: int
    tenants: tuple[int, int, int]  # organizations, apps, flows
    backlog: int


QUICK = Sizes(
    rounds=3,
    side_rounds=1,
    connections=(16,),
    shot_seconds=0.8,
    half_seconds=1.2,
    memory_events=2_000,
    tenants=(2_000, 200, 6_000),
    backlog=50_000,
)
USUAL = Sizes(
    rounds=3,
    side_rounds=3,
    connections=(16, 64),
    shot_seconds=2.5,
    half_seconds=4,
    memory_events=10_000,
    tenants=(2_000, 200, 6_000),
    backlog=50_000,
)
FULL = replace(
    USUAL, memory_events=1_000_000, tenants=(100_000, 10_000, 300_000), backlog=1_000_000
)


class Run:
    """What every scenario works with; leaving it ends everything it started."""

    def __init__(self, names: Sequence[str], sizes: Sizes, seed: int) -> None:
        self.sizes = sizes
        self.trouble: list[str] = []
        self.elsewhere: list[float] = []  # CPUs that others kept busy, shot by shot
        missing = servers.missing()
        self.names = [n for n in names if not (missing and RIGS[n].needs_servers)]
        self.trouble += [f"{n} was not measured: {missing}" for n in names if n not in self.names]
        self._closing = ExitStack()
        self._rigs: dict[str, Rig] = {}
        self._pace: dict[tuple[str, int], float] = {}  # rig and batch → events a second, lately
        folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="yangfan-bench-"))
        self.range = Range(Path(folder) / "ledger", seed=seed)
        self._closing.callback(self.range.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def rigs(self, *names: str) -> list[Rig]:
        """Return those of the systems that are to be measured, started when first asked for."""
        wanted = [name for name in names if name in self.names]
        if absent := [name for name in wanted if name not in self._rigs]:
            say(f"starting {', '.join(absent)} …")
            made = start_together([partial(RIGS[name], self.range.target) for name in absent])
            for name, rig in zip(absent, made, strict=True):
                self._closing.callback(rig.stop)
                self._rigs[name] = rig
            for rig in made:
                self.warm_up(rig)
        return [self._rigs[name] for name in wanted]

    def scaled(self) -> Scaled | None:
        """Return the hub on PostgreSQL, None when it is not to be measured."""
        (rig,) = self.rigs(Scaled.name) or [None]
        return rig if isinstance(rig, Scaled) else None

    def retire(self, rig: Rig) -> None:
        """Stop a system that is of no more use; asked for again, it starts afresh."""
        del self._rigs[rig.name]
        rig.stop()

    def warm_up(self, rig: Rig) -> None:
        """Send a little through every door, so that no first request is measured."""
        self._fire(rig, [Shot(WARM_UP_EVENTS, list(rig.doors))])

    def events(self, rig: Rig, *, batch: int = 1) -> int:
        """Say how many events last about a shot's time, by what the last full load showed."""
        pace = self._pace.get((rig.name, batch), 0)
        return max(FEWEST_EVENTS, FEWEST_REQUESTS * batch, int(pace * self.sizes.shot_seconds))

    def fire(self, rig: Rig, title: str, shot: Shot) -> Figures:
        """Fire a shot and tell what it measured."""
        return self.fire_together(rig, {title: shot})[0]

    def fire_together(self, rig: Rig, shots: dict[str, Shot]) -> list[Figures]:
        """Fire several titled shots at once and tell what they measured."""
        measured = self._fire(rig, list(shots.values()))
        for title, figures in zip(shots, measured, strict=True):
            say(f"  {rig.name:9} {title:24} {figures.line()}")
            if rig.name != "naive" and (figures.lost or figures.duplicates or figures.refused):
                self.trouble.append(f"{rig.name} {title}: {figures.line()}")
                say(rig.tail())
        return measured

    def _fire(self, rig: Rig, shots: Sequence[Shot]) -> list[Figures]:
        measured = self.range.fire_together(rig, shots)
        for shot, figures in zip(shots, measured, strict=True):
            self.elsewhere.append(figures.elsewhere_cpus)
            if not shot.rate:
                self._pace[rig.name, shot.batch] = figures.events_per_s
        return measured


def say(text: str) -> None:
    """Tell the person watching."""
    print(text, flush=True)


def machine(elsewhere: Sequence[float]) -> dict[str, float]:
    """Describe the machine: its CPUs, how fast one is, and how many were taken by others."""
    ordered = sorted(elsewhere) or [0.0]
    return {
        "cpus": os.cpu_count() or 1,
        "reference_loop_ms": round(reference_loop_ms(), 1),
        "elsewhere_cpus": round(share(ordered, 0.5), 2),
        "elsewhere_cpus_most": round(ordered[-1], 2),
    }


def reference_loop_ms() -> float:
    """Time a fixed piece of work, the best of a few, to compare machines and hours by."""
    best = float("inf")
    for _ in range(5):
        started, total = time.process_time(), 0
        for number in range(500_000):
            total += number
        best = min(best, time.process_time() - started)
    return best * 1000
