"""What a noisy neighbour costs: ten organizations share half load, then one sends ten times it."""

from bench.report import Found, spread
from bench.run import Run, say
from bench.shots import Shot

NAME = "noisy"
TENANTS = 10
TIMES = 10


def run(bench: Run) -> Found:
    """Compare the others' p99 with and without the noise, in turn."""
    rig = bench.scaled()
    if not rig:
        return {}
    say(f"noisy: one of {TENANTS} organizations sends {TIMES} times its share")
    rig.add_senders(TENANTS)
    loud, *others = rig.senders
    everybody = bench.fire(rig, "all, full", Shot(bench.events(rig), rig.senders))
    share = everybody.events_per_s / 2 / TENANTS
    seconds = 1.5 * bench.sizes.half_seconds
    rises, p99 = [], []
    for _ in range(bench.sizes.side_rounds):
        calm, noisy = (
            bench.fire_together(
                rig,
                {
                    f"nine others, {word}": _steady(others, share * len(others), seconds),
                    f"the tenth, {word}": _steady([loud], share * times, seconds),
                },
            )[0]
            for word, times in (("calm", 1), ("noisy", TIMES))
        )
        rises.append(noisy.p99_ms / calm.p99_ms)
        p99.append((calm.p99_ms, noisy.p99_ms))
    found = spread("noisy_p99_ratio", rises)
    found |= spread("noisy_calm_p99_ms", [calm for calm, _ in p99])
    return found | spread("noisy_others_p99_ms", [noisy for _, noisy in p99])


def _steady(doors: list[str], rate: float, seconds: float) -> Shot:
    return Shot(max(1, int(rate * seconds)), doors, rate=rate)
