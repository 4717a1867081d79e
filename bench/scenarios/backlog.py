"""What a backlog costs: how fast the hub accepts events while very many wait, and while none do.

Asked twice: of the hub as it always runs, when it drains beside the intake, and with its worker
stopped, when only the stored rows can be in the way.
"""

import time
from statistics import median

from bench import fill
from bench.report import Found
from bench.rigs import Scaled
from bench.run import Run, say
from bench.shots import Shot

NAME = "backlog"


def run(bench: Run) -> Found:
    """Measure the intake, store the backlog, measure it again; the hub is no use after that."""
    rig = bench.scaled()
    if not rig:
        return {}
    say(f"backlog: {bench.sizes.backlog} events")
    shot, rounds = Shot(bench.events(rig), ["flow"]), range(bench.sizes.side_rounds)
    empty = [bench.range.fire(rig, shot).ingest_per_s for _ in rounds]
    rig.stop_worker()
    empty_resting = _intake(bench, rig, shot)

    firm = rig.firms["flow"]
    fill.backlog(rig.database, firm.organization_id, firm.source_id, bench.sizes.backlog)
    full_resting = _intake(bench, rig, shot)
    rig.start_worker()
    _wait_until_draining(rig)
    at_start, started = fill.undrained(rig.database), time.monotonic()
    full = _intake(bench, rig, shot)
    at_end, seconds = fill.undrained(rig.database), time.monotonic() - started
    bench.retire(rig)

    routed = at_start + len(rounds) * shot.events - at_end
    say(f"  scaled    intake {median(empty):.0f}/s empty, {median(full):.0f}/s with a backlog")
    say(
        f"            {median(empty_resting):.0f}/s and {median(full_resting):.0f}/s without worker"
    )
    say(f"            waiting at the start {at_start}, at the end {at_end}")
    return {
        "backlog_ratio": round(median(full) / median(empty), 2),
        "backlog_resting_ratio": round(median(full_resting) / median(empty_resting), 2),
        "backlog_empty_ingest_per_s": round(median(empty), 1),
        "backlog_ingest_per_s": round(median(full), 1),
        "backlog_routed_per_s": round(routed / seconds, 1),
        "backlog_waiting_at_start": at_start,
        "backlog_waiting_at_end": at_end,
    }


def _intake(bench: Run, rig: Scaled, shot: Shot) -> list[float]:
    return [bench.range.fire_for_intake(rig, shot) for _ in range(bench.sizes.side_rounds)]


def _wait_until_draining(rig: Scaled) -> None:
    waiting, deadline = fill.undrained(rig.database), time.monotonic() + 60
    while fill.undrained(rig.database) >= waiting:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker does not drain:\n{rig.tail()}")
        time.sleep(0.2)
