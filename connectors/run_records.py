"""Runs and their steps, where their events go: into the archive, or away."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlmodel import Session

from connectors.tables import RUN, STEP
from webhooks.keeping.records import Follower, Rows, Standings, plain

_BATCH = 200


def look(
    session: Session,
    organization_id: str,
    event_ids: Sequence[str],
    found: Standings,
    lock: bool,  # noqa: FBT001
) -> None:
    """Add to each event's standing how far its runs are; `lock` holds them there."""
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
        by_id[row["id"]] = {**plain(dict(row)), "steps": []}
        found[row["event_id"]].append(by_id[row["id"]])
    ids = list(by_id)
    for start in range(0, len(ids), _BATCH):
        steps = select(STEP).where(
            STEP.c.organization_id == organization_id,
            STEP.c.run_id.in_(ids[start : start + _BATCH]),
        )
        for row in session.execute(steps.order_by(STEP.c.run_id, STEP.c.position)).mappings():
            by_id[row["run_id"]]["steps"].append(plain(dict(row)))
    return found


def drop(session: Session, organization_id: str, event_ids: Sequence[str]) -> int:
    """Delete the runs of some events with their steps; returns how many runs."""
    of_them = select(RUN.c.id).where(
        RUN.c.organization_id == organization_id, RUN.c.event_id.in_(event_ids)
    )
    session.execute(
        delete(STEP).where(STEP.c.organization_id == organization_id, STEP.c.run_id.in_(of_them))
    )
    gone: Any = session.execute(
        delete(RUN).where(RUN.c.organization_id == organization_id, RUN.c.event_id.in_(event_ids))
    )
    return int(gone.rowcount)


COLUMNS = (
    "id", "flow_id", "flow_version", "state", "cause", "detail", "created_at", "started_at",
    "finished_at",
)  # fmt: skip
FOLLOWER = Follower("runs", look, collect, drop, COLUMNS)
