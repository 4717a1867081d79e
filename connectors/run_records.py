"""Runs and their steps, where their events go: into the archive, or away.

What steps sent and got goes earlier, like the details of deliveries: when its time is over and the
run has come to its end. A parked run keeps it, because going on from where it stopped needs it.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, null, select, text, update
from sqlmodel import Session

from connectors import order_lanes
from connectors.resting import waits
from connectors.tables import APPROVAL, RUN, STEP
from kernel import queue
from webhooks.events import TASK
from webhooks.keeping.records import Follower, Forgetting, Rows, Standings, plain

_BATCH = 200
_DETAILS = ("input", "output", "edited_input")
_SAID_NOTHING = {"title": "", "text": "", "comment": None}
# word for word as the partial index has it
_IS_DETAILED = text(
    "run.state IN ('succeeded', 'skipped', 'cancelled') AND run.details_removed_at IS NULL"
)


def look(
    session: Session,
    organization_id: str,
    event_ids: Sequence[str],
    found: Standings,
    lock: bool,  # noqa: FBT001
) -> None:
    """Add to each event's standing how far its runs are; `lock` holds them there."""
    if lock:
        _lock_orders(session, organization_id, event_ids)
    wanted = (
        select(
            RUN.c.event_id, RUN.c.state, RUN.c.id, RUN.c.lease_epoch, RUN.c.next_step,
            RUN.c.attempt_count, RUN.c.effect_nonce,
        )
        .where(RUN.c.organization_id == organization_id, RUN.c.event_id.in_(event_ids))
        .order_by(RUN.c.id)
    )  # fmt: skip
    for row in session.execute(wanted.with_for_update() if lock else wanted):
        found[row.event_id].add(*row[1:])


def collect(session: Session, organization_id: str, event_ids: Sequence[str]) -> Rows:
    """Read the runs of some events, each with its steps."""
    wanted = select(RUN).where(
        RUN.c.organization_id == organization_id, RUN.c.event_id.in_(event_ids)
    )
    found: Rows = defaultdict(list)
    by_id: dict[str, dict[str, Any]] = {}
    for row in session.execute(wanted.order_by(RUN.c.id)).mappings():
        by_id[row["id"]] = {**plain(dict(row)), "steps": [], "approvals": []}
        found[row["event_id"]].append(by_id[row["id"]])
    ids = list(by_id)
    for start in range(0, len(ids), _BATCH):
        steps = select(STEP).where(
            STEP.c.organization_id == organization_id,
            STEP.c.run_id.in_(ids[start : start + _BATCH]),
        )
        for row in session.execute(steps.order_by(STEP.c.run_id, STEP.c.position)).mappings():
            by_id[row["run_id"]]["steps"].append(plain(dict(row)))
        asked = select(APPROVAL).where(
            APPROVAL.c.organization_id == organization_id,
            APPROVAL.c.run_id.in_(ids[start : start + _BATCH]),
        )
        for row in session.execute(asked.order_by(APPROVAL.c.id)).mappings():
            by_id[row["run_id"]]["approvals"].append(plain(dict(row)))
    return found


def drop(session: Session, organization_id: str, event_ids: Sequence[str]) -> int:
    """Delete the runs of some events with their steps; returns how many runs."""
    of_them = select(RUN.c.id).where(
        RUN.c.organization_id == organization_id, RUN.c.event_id.in_(event_ids)
    )
    waits.drop(session, organization_id, event_ids)
    for table in (STEP, APPROVAL):
        mine = table.c.organization_id == organization_id
        session.execute(delete(table).where(mine, table.c.run_id.in_(of_them)))
    _lock_orders(session, organization_id, event_ids)
    gone = session.execute(
        delete(RUN)
        .where(RUN.c.organization_id == organization_id, RUN.c.event_id.in_(event_ids))
        .returning(RUN.c.flow_id, RUN.c.order_key, RUN.c.state)
    ).all()
    # one that failed may have held others in an order
    held = [(organization_id, row[0], row[1]) for row in gone if _is_holding(row[1], row[2])]
    if order_lanes.settle(session, held):
        queue.nudge(session, TASK)
    return len(gone)


def _is_holding(order_key: str | None, state: str) -> bool:
    return order_key is not None and state == "parked"


def _lock_orders(session: Session, organization_id: str, event_ids: Sequence[str]) -> None:
    """Lock the flows whose lanes some of these runs hold, before the runs themselves."""
    holding = select(RUN.c.flow_id).where(
        RUN.c.organization_id == organization_id,
        RUN.c.event_id.in_(event_ids),
        RUN.c.order_key.is_not(None),
        RUN.c.state == "parked",
    )
    found = session.execute(holding.distinct()).scalars()
    order_lanes.lock(session, [(organization_id, flow_id) for flow_id in found])


def forget(session: Session, organization_id: str, forgetting: Forgetting) -> int:
    """Take away what the steps of runs that ended before a moment sent and got, and the apps' own
    words about them; returns of how many runs.
    """
    wanted = (
        select(RUN.c.id)
        .where(
            RUN.c.organization_id == organization_id,
            _IS_DETAILED,
            RUN.c.finished_at < forgetting.before,
        )
        .order_by(RUN.c.finished_at)
        .limit(forgetting.most)
    )
    ids = session.execute(wanted).scalars().all()
    for start in range(0, len(ids), _BATCH):
        _forget_steps(session, organization_id, ids[start : start + _BATCH])
    session.execute(
        update(RUN)
        .where(RUN.c.organization_id == organization_id, RUN.c.id.in_(ids))
        .values(
            detail=None,
            called_with=null(),
            result=null(),
            details_removed_at=forgetting.now,
            details_kept_days=forgetting.days,
        )
    )
    return len(ids)


def _forget_steps(session: Session, organization_id: str, run_ids: Sequence[str]) -> None:
    mine = (STEP.c.organization_id == organization_id) & STEP.c.run_id.in_(run_ids)
    session.execute(update(STEP).where(mine).values(dict.fromkeys(_DETAILS, null())))
    asked = (APPROVAL.c.organization_id == organization_id) & APPROVAL.c.run_id.in_(run_ids)
    session.execute(update(APPROVAL).where(asked).values(_SAID_NOTHING))
    troubled = select(STEP.c.id, STEP.c.problem).where(mine, STEP.c.problem.is_not(None))
    for row in session.execute(troubled).all():
        session.execute(
            update(STEP)
            .where(STEP.c.organization_id == organization_id, STEP.c.id == row.id)
            .values(problem={**row.problem, "detail": None})
        )


def bare(run: dict[str, Any], forgetting: Forgetting) -> None:
    """Take the same out of a collected run."""
    if run["details_removed_at"] is not None:
        return
    run["details_removed_at"] = forgetting.now.isoformat()
    run["details_kept_days"], run["detail"] = forgetting.days, None
    run["called_with"] = run["result"] = None
    for step in run["steps"]:
        step.update(dict.fromkeys(_DETAILS))
        if step["problem"]:
            step["problem"] = {**step["problem"], "detail": None}
    for approval in run.get("approvals", ()):
        approval.update(_SAID_NOTHING)


COLUMNS = (
    "id", "flow_id", "flow_version", "state", "cause", "detail", "created_at", "started_at",
    "finished_at",
)  # fmt: skip
FOLLOWER = Follower("runs", look, collect, drop, COLUMNS, forget, bare)
