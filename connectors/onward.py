"""Onward: a person sends a run on from another place than the one where it stopped.

A replay from a step is a new run: what went before is taken over as it was, the step and all behind
it are done anew under effect keys of the new run. Only a step that was not finished keeps its key,
so that an app which did it after all recognises it.
"""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col

from connectors import error_paths, flow_paths, flows, order_lanes, recovery
from connectors.errors import NotNow
from connectors.flow_documents import Planned, Recipe, recipe_of
from connectors.flow_trees import CATCHING
from connectors.tables import Run, Step
from identity.principals import Principal
from kernel import ids, queue
from kernel.database import store_now
from kernel.errors import N_, NotFound
from webhooks.events import TASK

_DONE = ("succeeded", "skipped")
_TAKEN = (
    "position", "key", "kind", "state", "attempt_count", "input", "output", "problem",
    "edited_input", "effect_key", "started_at", "finished_at", "elapsed_ms", "status",
)  # fmt: skip


def replay_from(session: Session, run: Run, step_key: str, *, principal: Principal | None) -> Run:
    """Run an event once more from a step on, by the version it ran with; gives the new run.

    Raises NotFound for a step that the flow has not, NotNow in words where it cannot be done: the
    run is under way, never came there, its details were removed, the step is in a loop that is
    over, or nobody knows whether an unfinished creating step was done.
    """
    old = recovery._find(session, run.organization_id, run.id)  # noqa: SLF001 - held like there
    if old.state in ("due", "leased"):
        raise NotNow(N_("This run is still under way"))
    if old.details_removed_at is not None:
        raise NotNow(
            N_("What the earlier steps gave was removed, so nothing can be taken over"),
            N_("Run it from the beginning instead; the event is still there."),
        )
    flow = flows.find(session, old.organization_id, old.flow_id)
    version = flows.version(session, old.organization_id, old.flow_id, old.flow_version)
    recipe = recipe_of(version.id, version.document)
    notes = _notes(session, old)
    position = _position(recipe, step_key, old, notes)
    unfinished = notes.get(position)
    if unfinished is not None and unfinished.state in _DONE:
        unfinished = None
    if unfinished is not None and old.cause == "unknown" and old.next_step == position:
        recovery._refuse_unsure(session, old)  # noqa: SLF001 - the same rule, the same words
    made = _new_run(session, old, flow.order_key)
    made.next_step, made.lane = position, recipe.lane_at(position, old.flow_id)
    session.add(made)
    session.flush()  # it stands in its lane before the old one leaves it
    for note in notes.values():
        if _is_before(recipe, note.position, position):
            session.add(_taken(made, old, note))
    if unfinished is not None and unfinished.kind == "action" and unfinished.effect_key:
        taken = _taken(made, old, unfinished)
        taken.state, taken.problem, taken.output = "waiting", None, None
        session.add(taken)
    if old.state in ("waiting", "parked"):
        recovery._cancel(session, old)  # noqa: SLF001 - as a replay from the start does
    recovery._settle(session, [made])  # noqa: SLF001
    queue.nudge(session, TASK)
    del principal  # who asked stands in the audit trail, which the edge writes
    return made


def take_error_path(
    session: Session, organization_id: str, run_id: str, *, principal: Principal | None
) -> Run:
    """Send a run that stopped down the error path of its flow: a person has looked and decided.

    Raises NotNow when it did not stop, or its flow says nothing for that.
    """
    run = recovery._find(session, organization_id, run_id)  # noqa: SLF001 - held like there
    if run.state != "parked" or not has_error_path(session, run):
        raise NotNow(
            N_("This run cannot take an error path"),
            N_("Only a run that stopped can, where its flow says what to do on an error."),
        )
    wanted = Step.of(organization_id).where(
        col(Step.run_id) == run_id, col(Step.position) == run.next_step
    )
    step: Step | None = session.execute(wanted).scalar_one_or_none()
    if step is None or not step.problem:
        raise NotNow(N_("This run cannot take an error path"))
    step.state = "failed"
    step.problem = {**step.problem, error_paths.DECIDED: True}
    session.add(step)
    recovery._wake(session, [run])  # noqa: SLF001 - as every decision about a stopped run does
    del principal
    return run


def has_error_path(session: Session, run: Run) -> bool:
    """Tell whether the flow of a run says what to do where it stands."""
    version = flows.version(session, run.organization_id, run.flow_id, run.flow_version)
    recipe = recipe_of(version.id, version.document)
    if flow_paths.step_of(run.next_step) >= len(recipe.steps):
        return False
    step = recipe.step_at(run.next_step)
    return bool(step.caught_by) and step.kind in CATCHING


# --- where it begins -----------------------------------------------------------------------------


def _notes(session: Session, run: Run) -> dict[int, Step]:
    wanted = Step.of(run.organization_id).where(col(Step.run_id) == run.id)
    return {step.position: step for step in session.execute(wanted).scalars()}


def _position(recipe: Recipe, step_key: str, run: Run, notes: Mapping[int, Step]) -> int:
    """Return where the new run begins: at the step, in the item that the old one stopped at."""
    step = next((one for one in recipe.steps if one.key == step_key), None)
    if step is None:
        raise NotFound
    around = _loops(recipe, step)
    here = flow_paths.items_of(run.next_step)
    is_over = flow_paths.step_of(run.next_step) >= len(recipe.steps)
    present = [] if is_over else _loops(recipe, recipe.step_at(run.next_step))
    if around != present[: len(around)] or len(here) < len(around):
        raise NotNow(
            N_("This step is inside a loop that is over"),
            N_("Begin at the loop itself, or run it from the beginning."),
        )
    position = flow_paths.position_at(step.position, here[: len(around)])
    if position not in notes and position != run.next_step:
        raise NotNow(
            N_("The run never came to this step"),
            N_("Choose a step that it reached."),
        )
    return position


def _loops(recipe: Recipe, step: Planned) -> list[int]:
    """Return the loops around a step, the outermost first."""
    found: list[int] = []
    around = step.inside
    while around is not None:
        found.insert(0, around)
        around = recipe.steps[around].inside
    return found


def _is_before(recipe: Recipe, position: int, target: int) -> bool:
    """Tell whether what was done at a position was done before a run comes to the target."""
    mine, its = flow_paths.items_of(position), flow_paths.items_of(target)
    step, goal = recipe.step_at(position), recipe.step_at(target)
    loops = zip(_loops(recipe, step), _loops(recipe, goal), strict=False)
    for number, (ours, theirs) in enumerate(loops):
        if ours != theirs:
            break
        if mine[number] != its[number]:
            return mine[number] < its[number]
    return step.position < goal.position


# --- the new run ---------------------------------------------------------------------------------


def _new_run(session: Session, old: Run, order_key: str | None) -> Run:
    run = Run(
        organization_id=old.organization_id,
        id=ids.new_id("run"),
        flow_id=old.flow_id,
        flow_version=old.flow_version,
        event_id=old.event_id,
        event_type=old.event_type,
        replay_nonce=ids.new_id("rpl"),
        lane=old.lane,
        next_at=store_now(session),
        parent_run_id=old.parent_run_id,
        parent_position=old.parent_position,
        depth=old.depth,
        called_with=old.called_with,
        environment=old.environment,
        replayed_from=old.id,
    )
    order_lanes.wait_in_turn(session, run, order_key)
    return run


def _taken(made: Run, old: Run, note: Step) -> Step:
    kept: dict[str, Any] = {name: getattr(note, name) for name in _TAKEN}
    return Step(
        organization_id=made.organization_id,
        id=ids.new_id("stp"),
        run_id=made.id,
        taken_from=note.taken_from or old.id,
        **kept,
    )
