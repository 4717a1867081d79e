"""What many tenants cost: a hub with very many organizations, apps and flows, and one with ten."""

from functools import partial

from bench import fill
from bench.report import Found, spread
from bench.rigs import Scaled, start_together
from bench.run import Run, say
from bench.shots import Shot

NAME = "tenants"
SENDERS = 10


def run(bench: Run) -> Found:
    """Send the same through both, in turn; in each the same number of organizations sends."""
    if Scaled.name not in bench.names:
        return {}
    organizations, apps, flows = bench.sizes.tenants
    say(f"tenants: {organizations} organizations, {apps} apps, {flows} flows, and {SENDERS}")
    make = partial(Scaled, bench.range.target, senders=SENDERS)
    stored = partial(fill.tenants, organizations=organizations, apps=apps, flows=flows)
    small, big = start_together([make, partial(make, fill=stored)])
    try:
        return _compare(bench, small, big) | {"tenants_organizations": organizations}
    finally:
        big.stop()
        small.stop()


def _compare(bench: Run, small: Scaled, big: Scaled) -> Found:
    for rig in (big, small):
        bench.warm_up(rig)
    ratios = []
    for _ in range(bench.sizes.side_rounds):
        shot = Shot(bench.events(small), small.senders)
        few = bench.fire(small, f"{SENDERS} organizations", shot)
        many = bench.fire(big, "many organizations", shot)
        ratios.append(many.events_per_s / few.events_per_s)
    return spread("tenants_ratio", ratios)
