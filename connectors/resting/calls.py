"""Calls: the runs of flows that other flows call.

A called run is a run of its own, with its caller's event and what it was handed. It names the run
above it; that one rests until this one has come to rest, looks at it, and goes by what it finds.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from connectors.engine import flow_templates
from connectors.moving import Deed, Moving
from connectors.resting import waits
from connectors.stages.tables import FlowInTest
from connectors.tables import RUN, Approval, Flow, FlowVersion, Run
from kernel import queue
from kernel.database import store_now
from webhooks.events import TASK

UNFINISHED = ("due", "leased", "waiting", "parked")
RESTING = ("succeeded", "skipped", "parked")
_DEEPEST = 8  # levels that are cancelled together; more cannot be


# --- deeds ---------------------------------------------------------------------------------------


def begin(session: Session, moving: Moving, deed: Deed) -> dict[str, Any]:
    """Start the called run, in the commit that notes it; refused when the flow is not there."""
    given, owner = deed.given, moving.organization_id
    flow = session.get(Flow, (owner, given["flow"]))
    stage: Any = flow
    if moving.kin.environment == "test":
        stage = session.get(FlowInTest, (owner, given["flow"]))
    if flow is None or flow.deleted_at is not None or stage is None or stage.state != "active":
        return _refuse(session, moving, deed)
    number = int(given["version"] or stage.published_version or 0)
    version = FlowVersion.of(owner).where(
        col(FlowVersion.flow_id) == flow.id,
        col(FlowVersion.number) == number,
        col(FlowVersion.environment) == moving.kin.environment,  # never over to the other side
    )
    document = getattr(session.execute(version).scalar_one_or_none(), "document", None)
    if document is None or not flow_templates.is_called(document):
        return _refuse(session, moving, deed)
    now = store_now(session)
    session.add(
        Run(
            organization_id=owner,
            id=given["run_id"],
            created_at=now,
            flow_id=flow.id,
            flow_version=number,
            event_id=moving.event_id,
            event_type="flow.called",
            replay_nonce=f"call_{given['run_id']}",  # its effects are its own
            lane=stage.lane or flow.id,
            next_at=now,
            parent_run_id=moving.id,
            parent_position=moving.position,
            depth=moving.kin.depth + 1,
            called_with={"data": given["value"]},
            environment="test" if moving.kin.environment == "test" else None,
        )
    )
    session.flush()
    queue.nudge(session, TASK)
    return {"run": given["run_id"]}


def _refuse(session: Session, moving: Moving, deed: Deed) -> dict[str, Any]:
    """Let the caller go on at once, to read why it was refused."""
    refusal = {"cause": "config", "say": _NOT_THERE}
    deed.note.output = {"refused": refusal}
    mine = (RUN.c.organization_id == moving.organization_id) & (RUN.c.id == moving.id)
    session.execute(update(RUN).where(mine).values(state="due", next_at=store_now(session)))
    queue.nudge(session, TASK)
    return {"refused": refusal}


def look(session: Session, moving: Moving) -> dict[str, Any]:
    """Return how the latest run is that was called at the present position."""
    wanted = (
        select(RUN.c.id, RUN.c.state, RUN.c.cause, RUN.c.result)
        .where(
            RUN.c.organization_id == moving.organization_id,
            RUN.c.parent_run_id == moving.id,
            RUN.c.parent_position == moving.position,
        )
        .order_by(RUN.c.id.desc())
        .limit(1)
    )
    row = session.execute(wanted).first()
    if row is None:
        return {"id": None, "state": "gone", "cause": None, "result": None}
    return {"id": row.id, "state": row.state, "cause": row.cause, "result": row.result}


def cancel(session: Session, moving: Moving, deed: Deed) -> bool:
    """Give up what was called at this position: its caller goes another way."""
    cancel_below(session, moving.organization_id, [moving.id], deed.note.position)
    return True


# --- upwards and downwards -----------------------------------------------------------------------


def write_results(session: Session, held: Sequence[Moving]) -> None:
    """Keep what called runs give back, and let the runs above those that came to rest look."""
    called = [one for one in held if one.kin.parent_id and one.state in RESTING]
    for moving in sorted(called, key=lambda one: one.kin.parent_id or ""):
        if moving.result is not None:
            session.execute(
                update(RUN)
                .where(RUN.c.organization_id == moving.organization_id, RUN.c.id == moving.id)
                .values(result=moving.result)
            )
        wake_above(
            session,
            moving.organization_id,
            str(moving.kin.parent_id),
            moving.kin.parent_position or 0,
        )


def wake_above(
    session: Session, organization_id: str, parent_id: str, parent_position: int
) -> None:
    """Let the run above look: one that rests at the call, or stopped because of it.

    One that somebody else has locked is left alone; it looks by itself in a while.
    """
    wanted = select(RUN.c.id).where(
        RUN.c.organization_id == organization_id,
        RUN.c.id == parent_id,
        RUN.c.next_step == parent_position,
        RUN.c.state.in_(("due", "leased", "waiting", "parked")),
    )
    found = session.execute(wanted.with_for_update(skip_locked=True)).scalar_one_or_none()
    if found is None:
        return
    mine = (RUN.c.organization_id == organization_id) & (RUN.c.id == parent_id)
    session.execute(
        update(RUN)
        .where(mine, RUN.c.state == "parked")
        .values(state="waiting", next_at=store_now(session), finished_at=None)
    )
    waits.wake_at(session, organization_id, [parent_id], parent_position)
    queue.nudge(session, TASK)


def cancel_below(
    session: Session, organization_id: str, run_ids: Sequence[str], position: int | None = None
) -> None:
    """Cancel the unfinished runs that these called, and those that they called."""
    level: list[str] = list(run_ids)
    for _ in range(_DEEPEST):
        mine = (
            RUN.c.organization_id == organization_id,
            RUN.c.parent_run_id.in_(level),
            RUN.c.state.in_(UNFINISHED),
        )
        where = mine if position is None else (*mine, RUN.c.parent_position == position)
        gone = session.execute(
            update(RUN)
            .where(*where)
            .values(
                state="cancelled",
                next_at=None,
                lease_owner=None,
                lease_until=None,
                lease_epoch=RUN.c.lease_epoch + 1,  # whoever works on it now may not record
                finished_at=store_now(session),
            )
            .returning(RUN.c.id)
        )
        level, position = list(gone.scalars()), None
        if not level:
            return
        _withdraw(session, organization_id, level)


def _withdraw(session: Session, organization_id: str, run_ids: Sequence[str]) -> None:
    waits.withdraw(session, organization_id, run_ids)
    session.execute(
        update(Approval)
        .where(
            col(Approval.organization_id) == organization_id,
            col(Approval.run_id).in_(list(run_ids)),
            col(Approval.state) == "open",
        )
        .values(state="withdrawn", next_at=None)
        .execution_options(synchronize_session=False)
    )


# --- looks ---------------------------------------------------------------------------------------


def children(session: Session, organization_id: str, run_id: str) -> dict[int, Run]:
    """Return the runs that a run called, the latest of each position."""
    wanted = Run.of(organization_id).where(col(Run.parent_run_id) == run_id)
    found = session.execute(wanted.order_by(col(Run.id))).scalars()
    return {one.parent_position or 0: one for one in found}


_NOT_THERE = {
    "zh": "要调用的流程已暂停、已删除或没有这个版本；什么也没有做",
    "en": "The flow to call is paused, deleted or has no such version; nothing was done",
}
