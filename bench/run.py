"""One run of the bench: the systems that are up, the sizes, and what is told on the way."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.rigs import RIGS, Rig, Scaled
from bench.servers import ServerMissingError
from bench.shots import Figures, Range, Shot

WARM_UP_EVENTS = 150
FEWEST_EVENTS = 200  # below that a shot says little


@dataclass(frozen=True)
class Sizes:
    """How much of everything; see QUICK and FULL."""

    rounds: int
    shot_seconds: float  # about how long a full load lasts
    half_seconds: float
    memory_events: int
    tenants: tuple[int, int, int]  # organizations, apps, flows
    backlog: int


QUICK = Sizes(
    rounds=3,
    shot_seconds=1.0,
    half_seconds=1.5,
    memory_events=3_000,
    tenants=(2_000, 200, 6_000),
    backlog=50_000,
)
FULL = Sizes(
    rounds=3,
    shot_seconds=3,
    half_seconds=4,
    memory_events=20_000,
    tenants=(100_000, 10_000, 300_000),
    backlog=1_000_000,
)


class Run:
    """What every scenario works with; leaving it ends everything it started."""

    def __init__(self, names: Sequence[str], sizes: Sizes, seed: int) -> None:
        self.names, self.sizes = names, sizes
        self.trouble: list[str] = []
        self._closing = ExitStack()
        self._rigs: dict[str, Rig | None] = {}
        self._pace: dict[str, float] = {}  # events a second in the warm-up
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

    def rig(self, name: str) -> Rig | None:
        """Return a system that lives as long as the run, started when it is first asked for.

        None when it was not asked for on the command line, or its servers are missing.
        """
        if name not in self.names:
            return None
        if name not in self._rigs:
            say(f"starting {name} …")
            try:
                rig = RIGS[name](self.range.target)
            except ServerMissingError as error:
                self.trouble.append(f"{name} was not measured: {error}")
                self._rigs[name] = None
                return None
            self._closing.callback(rig.stop)
            self._rigs[name] = rig
            self.warm_up(rig)
        return self._rigs[name]

    def all_rigs(self) -> list[Rig]:
        """Return every system asked for that could be started."""
        return [rig for name in RIGS if (rig := self.rig(name))]

    def scaled(self) -> Scaled | None:
        """Return the hub on PostgreSQL."""
        rig = self.rig(Scaled.name)
        return rig if isinstance(rig, Scaled) else None

    def warm_up(self, rig: Rig) -> None:
        """Send a little through every door, so that no first request is measured."""
        for door in rig.doors:
            figures = self.range.fire(rig, Shot(WARM_UP_EVENTS, [door]))
            self._pace.setdefault(rig.name, figures.events_per_s)

    def events(self, rig: Rig, *, batch: int = 1) -> int:
        """Say how many events last about a shot's time, by what the warm-up showed."""
        return max(FEWEST_EVENTS, int(self._pace[rig.name] * self.sizes.shot_seconds)) * (
            4 if batch > 1 else 1
        )

    def fire(self, rig: Rig, title: str, shot: Shot) -> Figures:
        """Fire a shot and tell what it measured."""
        return self.fire_together(rig, {title: shot})[0]

    def fire_together(self, rig: Rig, shots: dict[str, Shot]) -> list[Figures]:
        """Fire several titled shots at once and tell what they measured."""
        measured = self.range.fire_together(rig, list(shots.values()))
        for title, figures in zip(shots, measured, strict=True):
            say(f"  {rig.name:9} {title:24} {figures.line()}")
            if rig.name != "naive" and (figures.lost or figures.duplicates or figures.refused):
                self.trouble.append(f"{rig.name} {title}: {figures.line()}")
                say(rig.tail())
        return measured


def say(text: str) -> None:
    """Tell the person watching."""
    print(text, flush=True)


def machine() -> dict[str, float]:
    """Say what else the machine was doing."""
    return {"cpus": os.cpu_count() or 1, "load_1_minute": round(os.getloadavg()[0], 2)}
