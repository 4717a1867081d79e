"""Recovery: a person retries, repairs, repeats or cancels what stopped."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from connectors import (
    approvals,
    corrections,
    flow_documents,
    flow_paths,
    flows,
    order_lanes,
    runs,
)
from connectors.errors import NotNow, Unfit, finding
from connectors.flow_documents import ENDS, action_of
from connectors.masking import MAX_KEPT_BYTES
from connectors.resting import calls, waits
from connectors.stages import publishing
from connectors.tables import Flow, FlowVersion, Run, Step
from kernel import documents, ids, queue
from kernel.database import store_now
from kernel.errors import N_, NotFound

BULK_LIMIT = 1_000
DRAIN = "webhooks.drain"


def retry_now(session: Session, organization_id: str, run_id: str) -> Run:
    """Try a waiting or parked run again at once, with the same effect key."""
    run = _find(session, organization_id, run_id)
    if run.state not in ("waiting", "parked"):
        raise NotNow(N_("Only a run that waits or is parked can be tried again"))
    if run.state == "waiting" and run.next_at is None:
        raise NotNow(
            N_("This run waits for its turn"),
            N_("It goes on by itself once the runs in front of it have ended or are skipped."),
        )
    if run.state == "waiting" and run.cause == "approval":
        raise NotNow(
            N_("This run waits for somebody to decide"),
            N_("It goes on by itself once one of those who are asked has decided."),
        )
    if run.state == "waiting" and run.cause == "call":
        raise NotNow(
            N_("This run waits for the flow it called"),
            N_("It goes on by itself once that run has ended; look at that one."),
        )
    if run.state == "waiting" and run.cause in ("delay", "wait"):
        return end_delay(session, organization_id, run_id)
    _refuse_unsure(session, run)
    _wake(session, [run])
    return run


def end_delay(
    session: Session, organization_id: str, run_id: str, ended_by: str | None = None
) -> Run:
    """Let a run that waits for a time, or for an event, go on now; `ended_by` names who said so.

    One that waits for an event goes on as if its time was over.
    """
    run = _find(session, organization_id, run_id)
    step = _stopped_step(session, run)
    rests = step is not None and step.kind in ("delay", "wait")
    if run.state != "waiting" or step is None or not rests or run.next_at is None:
        raise NotNow(N_("This run does not wait for a time"))
    step.output = {
        **(step.output or {}),
        "ended_at": store_now(session).isoformat(),
        "ended_by": ended_by,
    }
    session.add(step)
    _wake(session, [run])
    return run


def replay_step(
    session: Session, organization_id: str, run_id: str, *, fresh_effect: bool = False
) -> Run:
    """Go on from the step that stopped.

    The effect key stays, so an app that has done it already will not do it twice; `fresh_effect`
    asks for it once more, and is also how a person says that an unknown outcome did not happen.
    """
    run = _find(session, organization_id, run_id)
    if run.state != "parked":
        raise NotNow(N_("Only a parked run can go on from the step that stopped"))
    if fresh_effect:
        run.effect_nonce = ids.new_id("eff")
    else:
        _refuse_unsure(session, run)
    _settle_mark(session, run)
    _wake(session, [run])
    return run


def mark_done(session: Session, organization_id: str, run_id: str, output: Any = None) -> Run:
    """Take the stopped step as done, because a person found it done in the app, and go on."""
    run = _find(session, organization_id, run_id)
    step = _stopped_step(session, run)
    if run.state != "parked" or step is None or step.kind != "action":
        raise NotNow(N_("Only an action that is parked can be taken as done"))
    recipe = _recipe(session, run)
    now = store_now(session)
    step.state, step.problem, step.finished_at = "succeeded", None, now
    step.output = _sized({} if output is None else output, "/output")
    planned = recipe.step_at(run.next_step)
    if planned.inside is None and planned.follows != ENDS:
        run.next_step = planned.follows
        run.lane = recipe.lane_at(run.next_step, run.flow_id)
    # else whoever takes the run up sees that the step is done, and where it leads
    session.add(step)
    _wake(session, [run])
    return run


def leave_out_item(session: Session, organization_id: str, run_id: str) -> Run:
    """Give up the item of a loop that the run stopped at, and go on with the next one."""
    run = _find(session, organization_id, run_id)
    step = _stopped_step(session, run)
    if run.state != "parked" or step is None or not flow_paths.items_of(run.next_step):
        raise NotNow(N_("Only a run that stopped inside a loop can leave out an item"))
    step.state, step.finished_at = "skipped", store_now(session)
    session.add(step)
    _wake(session, [run])
    return run


def replay_start(session: Session, organization_id: str, run_id: str) -> Run:
    """Run the event through the flow's present version once more, from the first step.

    A new run with a fresh nonce: apps will do again what they did before.
    """
    old = _find(session, organization_id, run_id)
    flow = flows.find(session, organization_id, old.flow_id)
    if old.state in ("due", "leased"):
        raise NotNow(N_("This run is still under way"))
    run = Run(
        organization_id=organization_id,
        id=ids.new_id("run"),
        flow_id=flow.id,
        flow_version=publishing.version_in(session, organization_id, flow, old.environment),
        event_id=old.event_id,
        event_type=old.event_type,
        replay_nonce=ids.new_id("rpl"),
        lane=flow.lane or flow.id,
        next_at=store_now(session),
        parent_run_id=old.parent_run_id,
        parent_position=old.parent_position,
        depth=old.depth,
        called_with=old.called_with,
        environment=old.environment,
    )
    order_lanes.wait_in_turn(session, run, flow.order_key)
    session.add(run)
    session.flush()  # it stands in its lane before the old one leaves it
    if old.state in ("waiting", "parked"):
        _cancel(session, old)
    _settle(session, [run])
    queue.nudge(session, DRAIN)
    return run


def edit_input(session: Session, organization_id: str, run_id: str, value: Any) -> Run:
    """Correct the input of the action that stopped and go on from there."""
    run = _find(session, organization_id, run_id)
    step = _stopped_step(session, run)
    if run.state != "parked" or step is None or step.kind != "action":
        raise NotNow(N_("Only the input of an action that is parked can be changed"))
    _refuse_unsure(session, run)
    corrections.check(_recipe(session, run).step_at(run.next_step), value)
    step.edited_input = _sized(value, "/input")
    step.input = step.edited_input
    session.add(step)
    _wake(session, [run])
    return run


def look_at_correction(
    session: Session, organization_id: str, run_id: str, value: Any
) -> corrections.Look:
    """Return what a corrected input would change, and what is wrong with it; nothing is kept."""
    run = runs.find(session, organization_id, run_id)
    step = _stopped_step(session, run)
    if step is None or step.kind != "action":
        raise NotNow(N_("Only the input of an action that is parked can be changed"))
    planned = _recipe(session, run).step_at(run.next_step)
    return corrections.Look(
        corrections.problems(planned, value), corrections.changes(step.input, value)
    )


def cancel(session: Session, organization_id: str, run_id: str) -> Run:
    """Give a run up; a call that is in the air cannot be taken back, but is not followed up."""
    run = _find(session, organization_id, run_id)
    if run.state in ("succeeded", "skipped", "cancelled"):
        raise NotNow(N_("This run has already come to its end"))
    _cancel(session, run)
    return run


def parked_ids(
    session: Session, organization_id: str, flow_id: str, cause: str | None
) -> list[str]:
    """List the parked runs of a flow and cause, the oldest first."""
    statement = select(col(Run.id)).where(
        col(Run.organization_id) == organization_id,
        col(Run.flow_id) == flow_id,
        col(Run.state) == "parked",
    )
    if cause:
        statement = statement.where(col(Run.cause) == cause)
    return list(session.execute(statement.order_by(col(Run.id)).limit(BULK_LIMIT)).scalars())


def replay_canary(session: Session, organization_id: str, flow_id: str, cause: str | None) -> Run:
    """Try the oldest parked run of a flow and cause first, to see whether the trouble is over."""
    if cause == "unknown":
        raise NotNow(
            N_("Runs with an unknown outcome are looked at one by one"),
            N_("Look into the app first; then say for each run whether it was done."),
        )
    for run_id in parked_ids(session, organization_id, flow_id, cause):
        run = _find(session, organization_id, run_id)
        if run.cause != "unknown":
            return replay_step(session, organization_id, run_id)
    raise NotFound(N_("No parked run fits"))


def replay_rest(
    session: Session, organization_id: str, flow_id: str, cause: str | None, canary_id: str
) -> int:
    """Replay the other parked runs once the canary has got past its step; return how many.

    Refused (NotNow) while the canary moves, or when it stopped again.
    """
    canary = _find(session, organization_id, canary_id)
    if canary.flow_id != flow_id or canary.state in ("parked", "waiting", "cancelled"):
        raise NotNow(
            N_("The first run did not get through"),
            N_("Nothing else was touched. Cure the cause, then try the first run again."),
        )
    if canary.state not in ("succeeded", "skipped"):
        raise NotNow(N_("The first run is still under way"))
    statement = Run.of(organization_id).where(
        col(Run.flow_id) == flow_id, col(Run.state) == "parked", col(Run.cause) != "unknown"
    )
    if cause:
        statement = statement.where(col(Run.cause) == cause)
    rest = list(session.execute(statement.order_by(col(Run.id)).limit(BULK_LIMIT)).scalars())
    _wake(session, rest)
    return len(rest)


def wake(session: Session, stopped: Sequence[Run]) -> None:
    """Let parked runs go on; their flows and then they are locked by the caller."""
    _wake(session, stopped)


def locked(session: Session, organization_id: str, run_id: str) -> Run:
    """Return the run, held until the commit behind its flow; a stranger's is NotFound."""
    return _find(session, organization_id, run_id)


def recipe_of(session: Session, run: Run) -> flow_documents.Recipe:
    """Return the recipe of the version that a run goes by."""
    return _recipe(session, run)


def give_up(session: Session, run: Run) -> None:
    """Cancel a run that the caller has locked, behind its flow."""
    _cancel(session, run)


# --- parts ----------------------------------------------------------------------------------------


def _find(session: Session, organization_id: str, run_id: str) -> Run:
    """Return the run, held until the commit, so that two people's decisions cannot mix.

    Its flow is locked before it, as whoever acts here may let others of its lane go.
    """
    of_flow = select(col(Run.flow_id)).where(
        col(Run.organization_id) == organization_id, col(Run.id) == run_id
    )
    order_lanes.lock(session, [(organization_id, row[0]) for row in session.execute(of_flow)])
    statement = Run.of(organization_id).where(col(Run.id) == run_id).with_for_update()
    run: Run | None = session.execute(statement).scalar_one_or_none()
    if run is None:
        raise NotFound
    return run


def _stopped_step(session: Session, run: Run) -> Step | None:
    statement = Step.of(run.organization_id).where(
        col(Step.run_id) == run.id, col(Step.position) == run.next_step
    )
    return session.execute(statement).scalar_one_or_none()


def _recipe(session: Session, run: Run) -> flow_documents.Recipe:
    version: FlowVersion = flows.version(
        session, run.organization_id, run.flow_id, run.flow_version
    )
    return flow_documents.recipe_of(version.id, version.document)


def _refuse_unsure(session: Session, run: Run) -> None:
    """Never repeat blindly what may have happened and cannot be recognised by the app."""
    step = _stopped_step(session, run)
    if run.cause != "unknown" or step is None:
        return
    planned = _recipe(session, run).step_at(run.next_step)
    try:
        _, action = action_of(planned.connector or "", planned.action or "")
    except NotFound:
        return
    if not action.is_idempotent:
        raise NotNow(
            N_("Nobody knows whether the app did this already"),
            N_("Look into the app: then take the step as done, or ask for it once more."),
        )


def _settle_mark(session: Session, run: Run) -> None:
    step = _stopped_step(session, run)
    if step is not None and step.state == "sending":
        step.state = "waiting"
        session.add(step)


def _wake(session: Session, some: Sequence[Run]) -> None:
    """Let runs of one flow go on, those of an order in their turn."""
    now = store_now(session)
    for run in some:
        run.state, run.next_at, run.attempt_count = "due", now, 0
        run.cause = run.say = run.detail = run.finished_at = run.incident_id = None
        run.crash_count = 0
        flow = session.get(Flow, (run.organization_id, run.flow_id))
        order_lanes.wait_in_turn(session, run, flow.order_key if flow else None)
        session.add(run)
    if some:
        _settle(session, some)
        queue.nudge(session, DRAIN)


def _settle(session: Session, some: Sequence[Run]) -> None:
    """Let the heads of these runs' lanes go, and see what became of them."""
    ordered = [run for run in some if run.order_key is not None]
    if ordered:
        session.flush()
        order_lanes.settle(
            session, [(r.organization_id, r.flow_id, str(r.order_key)) for r in ordered]
        )
        for run in ordered:
            session.refresh(run)


def _cancel(session: Session, run: Run) -> None:
    session.execute(
        update(Run)
        .where(col(Run.organization_id) == run.organization_id, col(Run.id) == run.id)
        .values(
            state="cancelled",
            next_at=None,
            lease_owner=None,
            lease_until=None,
            lease_epoch=col(Run.lease_epoch) + 1,  # whoever works on it now may not record
            finished_at=store_now(session),
        )
        .execution_options(synchronize_session=False)
    )
    approvals.withdraw(session, run.organization_id, [run.id])
    waits.withdraw(session, run.organization_id, [run.id])
    calls.cancel_below(session, run.organization_id, [run.id])
    if run.parent_run_id is not None:
        at = run.parent_position or 0
        calls.wake_above(session, run.organization_id, run.parent_run_id, at)
    _settle(session, [run])
    session.refresh(run)
    queue.nudge(session, DRAIN)


def _sized(value: Any, pointer: str) -> Any:
    if len(documents.dump(value)) > MAX_KEPT_BYTES:
        raise Unfit([finding(pointer, "内容超过 64 KB", "This is larger than 64 kB")])
    return value
