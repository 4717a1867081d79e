"""What many tenants cost: a hub with very many organizations, apps and flows, and one with ten."""

from bench import fill
from bench.report import Found, spread
from bench.rigs import Scaled
from bench.run import Run, say
from bench.shots import Shot

NAME = "tenants"
SENDERS = 10


def run(bench: Run) -> Found:
    """Send the same through both, in turn; in each the same number of organizations sends."""
    if not bench.scaled():
        return {}
    organizations, apps, flows = bench.sizes.tenants
    say(f"tenants: {organizations} organizations, {apps} apps, {flows} flows, and {SENDERS}")
    target = bench.range.target
    small = Scaled(target, senders=SENDERS)
    try:
        big = Scaled(
            target,
            senders=SENDERS,
            fill=lambda database: fill.tenants(database, organizations, apps, flows),
        )
    except BaseException:
        small.stop()
        raise
    try:
        return _compare(bench, small, big) | {"tenants_organizations": organizations}
    finally:
        big.stop()
        small.stop()


def _compare(bench: Run, small: Scaled, big: Scaled) -> Found:
    for rig in (small, big):
        bench.range.fire(rig, Shot(300, rig.senders))
    shot = Shot(bench.events(small), small.senders)
    ratios = []
    for _ in range(bench.sizes.rounds):
        few = bench.fire(small, f"{SENDERS} organizations", shot)
        many = bench.fire(big, "many organizations", shot)
        ratios.append(many.events_per_s / few.events_per_s)
    return spread("tenants_ratio", ratios)
