"""Arrays of 50 events through the hub, beside single events through the baseline.

Not like for like: the baseline takes no arrays, and writing it so that it did would be another
pipeline. It tells what a sender gains who can collect.
"""

from statistics import median

from bench.report import Found, spread
from bench.rigs import RIGS
from bench.run import Run, say
from bench.shots import Shot

NAME = "arrays"
BATCH = 50


def run(bench: Run) -> Found:
    """Fire interleaved rounds."""
    rates: dict[str, list[float]] = {}
    rigs = bench.rigs(*RIGS)
    for rig in rigs:
        if rig.name != "naive":
            shot = Shot(bench.events(rig, batch=BATCH) // 2, list(rig.doors)[:1], batch=BATCH)
            bench.fire(rig, "arrays, to warm up", shot)
    for number in range(bench.sizes.side_rounds):
        say(f"arrays of {BATCH}, round {number + 1} of {bench.sizes.side_rounds}")
        for rig in rigs:
            batch = 1 if rig.name == "naive" else BATCH
            shot = Shot(bench.events(rig, batch=batch), list(rig.doors)[:1], batch=batch)
            title = "single, c=16" if batch == 1 else f"arrays of {batch}, c=16"
            rates.setdefault(rig.name, []).append(bench.fire(rig, title, shot).events_per_s)
    found: Found = {
        f"{name}_arrays_events_per_s": round(median(some), 1)
        for name, some in rates.items()
        if name != "naive"
    }
    for name in ("scaled", "embedded"):
        if name in rates and "naive" in rates:
            ratios = [a / b for a, b in zip(rates[name], rates["naive"], strict=True)]
            found |= spread(f"{name}_arrays_per_naive", ratios)
    return found
