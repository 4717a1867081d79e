"""Single events through every system in turn: throughput, delay at full and at half load, CPU."""

from collections import defaultdict
from statistics import median

from bench.report import spread
from bench.run import Run, say
from bench.shots import Figures, Shot

NAME = "single"
CONNECTIONS, MANY_CONNECTIONS = 16, 64
Shots = dict[tuple[str, str], list[Figures]]


def run(bench: Run) -> dict[str, object]:
    """Fire interleaved rounds and return medians, and the ratios to the baseline."""
    shots: Shots = defaultdict(list)
    for number in range(bench.sizes.rounds):
        say(f"single events, round {number + 1} of {bench.sizes.rounds}")
        for name, rig in bench.rigs.items():
            events = bench.events(rig)
            door = next(iter(rig.doors))
            full = bench.fire(rig, door, "c=16 full", Shot(events, CONNECTIONS))
            shots[name, "c16"].append(full)
            rate = full.events_per_s / 2
            half = Shot(int(rate * bench.sizes.half_seconds), CONNECTIONS, rate=rate)
            shots[name, "half"].append(bench.fire(rig, door, f"c=16 {rate:.0f}/s", half))
            many = Shot(events, MANY_CONNECTIONS)
            shots[name, "c64"].append(bench.fire(rig, door, "c=64 full", many))
            if "endpoint" in rig.doors:
                shot = Shot(events, CONNECTIONS)
                shots[name, "endpoint"].append(
                    bench.fire(rig, "endpoint", "c=16 full, endpoint", shot)
                )
    return _medians(shots) | _ratios(shots)


def _medians(shots: Shots) -> dict[str, object]:
    figures: dict[str, object] = {}
    for (name, kind), some in shots.items():
        for word in ("events_per_s", "ingest_per_s", "p50_ms", "p99_ms", "cpu_ms_per_event"):
            figures[f"{name}_{kind}_{word}"] = round(median(getattr(f, word) for f in some), 2)
        figures[f"{name}_lost"] = sum(f.lost for f in some) + int(figures.get(f"{name}_lost", 0))
        figures[f"{name}_duplicates"] = sum(f.duplicates for f in some) + int(
            figures.get(f"{name}_duplicates", 0)
        )
    drivers = [f.driver_cpu_ms_per_event for some in shots.values() for f in some]
    figures["driver_cpu_ms_per_event"] = round(median(drivers), 3)
    return figures


def _ratios(shots: Shots) -> dict[str, object]:
    """Divide round by round, so that a slow minute of the machine hits both sides."""
    figures: dict[str, object] = {}
    for (name, kind), some in shots.items():
        against = shots.get(("naive", "c16" if kind == "endpoint" else kind))
        if name == "naive" or not against or kind == "half":
            continue
        ratios = [a.events_per_s / b.events_per_s for a, b in zip(some, against, strict=True)]
        figures |= spread(f"{name}_per_naive_{kind}", ratios)
    return figures
