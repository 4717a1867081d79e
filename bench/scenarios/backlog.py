"""What a backlog costs: how fast the hub accepts events while very many wait, and while none do.

The hub runs as always, so in both cases it drains what it can beside the intake.
"""

import time
from statistics import median

from bench import fill
from bench.report import Found
from bench.run import Run, say
from bench.shots import Shot

NAME = "backlog"


def run(bench: Run) -> Found:
    """Measure the intake, store the backlog, measure it again; the hub is no use after that."""
    rig = bench.scaled()
    if not rig:
        return {}
    say(f"backlog: {bench.sizes.backlog} events")
    shot = Shot(bench.events(rig), ["flow"])
    rounds = range(bench.sizes.side_rounds)
    empty = [bench.range.fire(rig, shot).ingest_per_s for _ in rounds]
    tenant = rig.tenants["flow"]
    fill.backlog(rig.database, tenant.organization_id, tenant.source_id, bench.sizes.backlog)
    at_start, started = fill.undrained(rig.database), time.monotonic()
    full = [bench.range.fire_for_intake(rig, shot) for _ in rounds]
    at_end, seconds = fill.undrained(rig.database), time.monotonic() - started
    routed = at_start + bench.sizes.side_rounds * shot.events - at_end
    bench.retire(rig)
    say(f"  scaled    intake {median(empty):.0f}/s empty, {median(full):.0f}/s with a backlog")
    say(f"            waiting at the start {at_start}, at the end {at_end}")
    return {
        "backlog_ratio": round(median(full) / median(empty), 2),
        "backlog_empty_ingest_per_s": round(median(empty), 1),
        "backlog_ingest_per_s": round(median(full), 1),
        "backlog_routed_per_s": round(routed / seconds, 1),
        "backlog_waiting_at_start": at_start,
        "backlog_waiting_at_end": at_end,
    }
