"""What memory the embedded hub needs under load, its whole process tree, and whether it grows."""

from bench import processes
from bench.report import Found
from bench.run import Run, say
from bench.shots import Shot

NAME = "memory"
SETTLING_EVENTS = 5_000


def run(bench: Run) -> Found:
    """Send many events and watch."""
    (rig,) = bench.rigs("embedded") or [None]
    if not rig:
        return {}
    events = bench.sizes.memory_events
    say(f"memory: {events} events through the embedded hub")
    before = processes.memory_mb(rig.roots())
    # caches and pools fill with the first events; what grows from then on is a leak
    bench.fire(rig, "to fill caches", Shot(min(events, SETTLING_EVENTS), ["flow"]))
    settled = processes.memory_mb(rig.roots())
    watch = processes.Watch(lambda: processes.memory_mb(rig.roots()))
    bench.fire(rig, f"{events} events, c=16", Shot(events, ["flow"]))
    most = watch.stop()
    after = processes.memory_mb(rig.roots())
    found: Found = {
        "embedded_memory_mb": round(most, 1),
        "embedded_memory_before_mb": round(before, 1),
        "embedded_growth_mb_per_1000_events": round((after - settled) * 1000 / events, 3),
        "embedded_growth_ratio": round(after / settled - 1, 3),
        "embedded_peak_resident_mb": round(processes.peak_resident_mb(rig.roots()), 1),
    }
    say(f"  embedded  {before:.0f} MB before, {most:.0f} MB at most, {after:.0f} MB after")
    return found
