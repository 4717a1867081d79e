"""Single events through every system in turn: throughput, delay at full and at half load, CPU."""

from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from bench.report import Found, spread
from bench.rigs import RIGS, Rig
from bench.run import Run, say
from bench.shots import Figures, Shot

NAME = "single"
Shots = dict[tuple[str, str], list[Figures]]


def run(bench: Run) -> Found:
    """Fire interleaved rounds; return medians, and the ratios to the baseline round by round."""
    shots: Shots = defaultdict(list)
    rigs = bench.rigs(*RIGS)
    for number in range(bench.sizes.rounds):
        say(f"single events, round {number + 1} of {bench.sizes.rounds}")
        for rig in rigs:
            for kind, figures in _round(bench, rig):
                shots[rig.name, kind].append(figures)
    return _medians(shots) | _ratios(shots)


def _round(bench: Run, rig: Rig) -> Iterator[tuple[str, Figures]]:
    doors = list(rig.doors)[:1]
    few, *more = bench.sizes.connections
    full = bench.fire(rig, f"c={few} full", Shot(bench.events(rig), doors, few))
    yield f"c{few}", full
    rate = full.events_per_s / 2
    half = Shot(int(rate * bench.sizes.half_seconds), doors, few, rate=rate)
    yield "half", bench.fire(rig, f"c={few} at {rate:.0f}/s", half)
    for many in more:
        yield f"c{many}", bench.fire(rig, f"c={many} full", Shot(bench.events(rig), doors, many))
    if "endpoint" in rig.doors:
        shot = Shot(bench.events(rig), ["endpoint"], few)
        yield "endpoint", bench.fire(rig, f"c={few} full, endpoint", shot)


def _medians(shots: Shots) -> Found:
    found: Found = {}
    for (name, kind), some in shots.items():
        for word in ("events_per_s", "ingest_per_s", "p50_ms", "p99_ms", "cpu_ms_per_event"):
            found[f"{name}_{kind}_{word}"] = round(median(getattr(f, word) for f in some), 2)
        for word in ("lost", "duplicates", "refused"):
            key = f"{name}_{word}"
            found[key] = found.get(key, 0) + sum(getattr(f, word) for f in some)
    halves = [found[f"{n}_half_p99_ms"] for n in ("scaled", "embedded") if (n, "half") in shots]
    if halves:
        found["worse_half_p99_ms"] = max(halves)
    drivers = [f.driver_cpu_ms_per_event for some in shots.values() for f in some]
    return found | {"driver_cpu_ms_per_event": round(median(drivers), 3)} if drivers else found


def _ratios(shots: Shots) -> Found:
    """Divide round by round, so that a slow minute of the machine hits both sides."""
    found: Found = {}
    for (name, kind), some in shots.items():
        against = shots.get(("naive", "c16" if kind == "endpoint" else kind))
        if name == "naive" or not against or kind == "half":
            continue
        pairs = list(zip(some, against, strict=True))
        speeds = [ours.events_per_s / theirs.events_per_s for ours, theirs in pairs]
        costs = [theirs.cpu_ms_per_event / ours.cpu_ms_per_event for ours, theirs in pairs]
        found |= spread(f"{name}_per_naive_{kind}", speeds)
        found |= spread(f"naive_cpu_per_{name}_{kind}", costs)
    return found
