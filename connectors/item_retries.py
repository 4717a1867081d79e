"""Item retries: what a loop went on without is tried again, in the same run.

The run goes its way once more along the notes of what was done: that is not done again. Where an
item failed it stands still, does the step with the same effect key, and goes on with the item.
"""

from typing import Any

from sqlmodel import Session, col

from connectors import recovery
from connectors.errors import NotNow
from connectors.flow_documents import Recipe
from connectors.laps import GO_ON, ON_ERROR
from connectors.tables import Run, Step
from kernel.errors import N_

OVER = ("succeeded", "skipped")


def failed(recipe: Recipe, run: Run, steps: dict[int, Step]) -> list[int]:
    """Return the positions where items failed that their loop went on without, in their order."""
    if run.state not in OVER or run.details_removed_at is not None:
        return []
    found = [
        position
        for position, step in steps.items()
        if step.state == "failed" and step.kind != "each" and _goes_on(recipe, position)
    ]
    return sorted(found, key=recipe.order_of)


def _goes_on(recipe: Recipe, position: int) -> bool:
    return any(
        recipe.step_at(loop).settings.get(ON_ERROR) == GO_ON
        for loop in recipe.loops_around(position)
    )


def retry(session: Session, organization_id: str, run_id: str) -> Run:
    """Try every item again that the run's loops went on without; NotNow when there is none."""
    run = recovery.locked(session, organization_id, run_id)
    recipe = recovery.recipe_of(session, run)
    statement = Step.of(organization_id).where(col(Step.run_id) == run_id)
    steps: dict[int, Any] = {one.position: one for one in session.execute(statement).scalars()}
    positions = failed(recipe, run, steps)
    if not positions:
        raise NotNow(N_("No item of this run failed that could be tried again"))
    for position in positions:
        for loop in recipe.loops_around(position):
            if loop in steps:
                steps[loop].state, steps[loop].problem = "open", None
                steps[loop].finished_at = None
                session.add(steps[loop])
        steps[position].state, steps[position].finished_at = "waiting", None
        session.add(steps[position])
    run.next_step = positions[0]
    run.lane = recipe.lane_at(run.next_step, run.flow_id)
    recovery.wake(session, [run])
    return run
