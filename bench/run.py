"""One run of the bench: the systems that are up, the sizes, and what is told on the way."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rigs import RIGS, Rig
from bench.shots import Figures, Range, Shot


@dataclass(frozen=True)
class Sizes:
    """How much of everything; see QUICK and FULL."""

    rounds: int
    naive_events: int
    hub_events: int
    half_seconds: float
    memory_events: int
    tenants: tuple[int, int, int]  # organizations, apps, flows
    backlog: int


QUICK = Sizes(
    rounds=3,
    naive_events=450,
    hub_events=1_500,
    half_seconds=2,
    memory_events=4_000,
    tenants=(2_000, 200, 6_000),
    backlog=50_000,
)
FULL = Sizes(
    rounds=3,
    naive_events=1_500,
    hub_events=5_000,
    half_seconds=5,
    memory_events=20_000,
    tenants=(100_000, 10_000, 300_000),
    backlog=1_000_000,
)


class Run:
    """What every scenario works with."""

    def __init__(self, names: list[str], sizes: Sizes, seed: int) -> None:
        self.sizes = sizes
        self.closing = ExitStack()
        self.rigs: dict[str, Rig] = {}
        self.trouble: list[str] = []
        folder = Path(self.closing.enter_context(tempfile.TemporaryDirectory(prefix="yf-bench-")))
        self.range = Range(folder / "ledger", seed=seed)
        self.closing.callback(self.range.stop)
        try:
            for name in names:
                self.rigs[name] = self.start(name)
        except BaseException:
            self.closing.close()
            raise

    def start(self, name: str) -> Rig:
        """Start a system that goes with the run, and let it warm up."""
        say(f"starting {name} …")
        rig = RIGS[name](self.range.target)
        self.closing.callback(rig.stop)
        self.warm_up(rig)
        return rig

    def warm_up(self, rig: Rig) -> None:
        """Send a little, so that no first request is measured."""
        for door in rig.doors:
            self.range.fire(rig, door, Shot(events=100))

    def events(self, rig: Rig) -> int:
        """Say how many events make a shot at a system."""
        return self.sizes.naive_events if rig.name == "naive" else self.sizes.hub_events

    def fire(self, rig: Rig, door: str, title: str, shot: Shot) -> Figures:
        """Fire a shot and tell what it measured."""
        figures = self.range.fire(rig, door, shot)
        say(f"  {rig.name:9} {title:22} {figures.line()}")
        if rig.name != "naive" and (figures.lost or figures.duplicates):
            self.trouble.append(f"{rig.name} {title}: {figures.line()}")
        return figures


@contextmanager
def running(names: list[str], sizes: Sizes, seed: int) -> Iterator[Run]:
    """Start the systems, hand the run out, end everything."""
    run = Run(names, sizes, seed)
    try:
        yield run
    finally:
        run.closing.close()


def say(text: str) -> None:
    """Tell the person watching."""
    print(text, flush=True)


def machine() -> dict[str, float]:
    """Say what else the machine was doing."""
    return {"cpus": os.cpu_count() or 1, "load_1_minute": round(os.getloadavg()[0], 2)}
