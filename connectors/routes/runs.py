"""The JSON routes of runs."""

from dataclasses import asdict
from typing import Any

from flask import Blueprint, request
from flask_babel import gettext

from connectors import item_retries, masking, onward, recovery, runs, schemas
from connectors.tables import Run
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation, page_of

blueprint = Blueprint("runs", __name__)


@blueprint.get("/runs")
@require("runs:read")
@operation(summary="List the runs", returns=schemas.RunOut, many=True)
def list_runs() -> Any:
    """Return runs, the newest first; filters: flow, state (several), event, type, cause,
    incident.
    """
    who, given = principal(), request.args
    chosen = runs.select_runs(
        who.organization_id,
        flow_id=given.get("flow"),
        states=given.getlist("state"),
        event_id=given.get("event"),
        event_type=given.get("type"),
        cause=given.get("cause"),
        incident_id=given.get("incident"),
    )
    limit = given.get("limit", 50, type=int)
    with reading(who.organization_id) as session:
        return page_of(session, chosen, Run.id, cursor=given.get("cursor"), limit=limit)


@blueprint.get("/runs/<run_id>")
@require("runs:read")
@operation(summary="Read a run", returns=schemas.RunDetailOut)
def read_run(run_id: str) -> Any:
    """Return a run with every step's input and output."""
    who = principal()
    with reading(who.organization_id) as session:
        return _detail(runs.detail(session, who.organization_id, run_id))


@blueprint.post("/runs/<run_id>/retry")
@require("runs:replay")
@operation(summary="Try a waiting or parked run again", returns=schemas.RunOut)
def retry_run(run_id: str) -> Any:
    """Try again now, with the same effect key."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.retried", run_id)
        return recovery.retry_now(session, who.organization_id, run_id)


@blueprint.post("/runs/<run_id>/replay")
@require("runs:replay")
@operation(summary="Repeat a run", body=schemas.ReplayIn, returns=schemas.RunOut)
def replay_run(run_id: str, body: schemas.ReplayIn) -> Any:
    """Go on from the step that stopped, or run the event once more from the beginning."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.replayed", run_id, detail=body.model_dump())
        if body.start == "beginning":
            return recovery.replay_start(session, who.organization_id, run_id)
        return recovery.replay_step(
            session, who.organization_id, run_id, fresh_effect=body.fresh_effect
        )


@blueprint.post("/runs/<run_id>/replay-from")
@require("runs:replay")
@operation(summary="Repeat a run from a step on", body=schemas.FromStepIn, returns=schemas.RunOut)
def replay_run_from(run_id: str, body: schemas.FromStepIn) -> Any:
    """Make a new run that takes over what went before the step, and does the rest anew."""
    who = principal()
    with transaction(who.organization_id) as session:
        run = runs.find(session, who.organization_id, run_id)
        made = onward.replay_from(session, run, body.step, principal=who)
        detail = {"how": "from", "step": body.step, "run": made.id}
        audit.record(session, who, "run.replayed", run_id, detail=detail)
        return made


@blueprint.post("/runs/<run_id>/error-path")
@require("runs:replay")
@operation(summary="Send a stopped run down its error path", returns=schemas.RunOut)
def take_run_error_path(run_id: str) -> Any:
    """Go on as the flow says for a failure; the step that stopped is not tried again."""
    who = principal()
    with transaction(who.organization_id) as session:
        made = onward.take_error_path(session, who.organization_id, run_id, principal=who)
        audit.record(session, who, "run.error_path_taken", run_id)
        return made


@blueprint.post("/runs/<run_id>/input")
@require("runs:replay")
@operation(summary="Correct a step's input", body=schemas.InputIn, returns=schemas.RunOut)
def edit_run_input(run_id: str, body: schemas.InputIn) -> Any:
    """Correct the input of the action that stopped and go on."""
    who = principal()
    with transaction(who.organization_id) as session:
        changed = recovery.edit_input(session, who.organization_id, run_id, body.input)
        audit.record(session, who, "run.input_edited", run_id, detail={"step": changed.next_step})
        return changed


@blueprint.post("/runs/<run_id>/done")
@require("runs:replay")
@operation(summary="Take a stopped step as done", body=schemas.DoneIn, returns=schemas.RunOut)
def finish_run_step(run_id: str, body: schemas.DoneIn) -> Any:
    """Go on behind a step that a person found done in the app."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.step_taken_as_done", run_id)
        return recovery.mark_done(session, who.organization_id, run_id, body.output)


@blueprint.post("/runs/<run_id>/end-delay")
@require("runs:replay")
@operation(summary="End a run's delay", returns=schemas.RunOut)
def end_run_delay(run_id: str) -> Any:
    """Let a run that waits for a time go on now."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.delay_ended", run_id)
        return recovery.end_delay(session, who.organization_id, run_id, who.name)


@blueprint.post("/runs/<run_id>/leave-out-item")
@require("runs:replay")
@operation(summary="Leave out the item that a run stopped at", returns=schemas.RunOut)
def leave_out_run_item(run_id: str) -> Any:
    """Give up the item of the loop that the run is in, and go on with the next one."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.item_left_out", run_id)
        return recovery.leave_out_item(session, who.organization_id, run_id)


@blueprint.post("/runs/<run_id>/retry-items")
@require("runs:replay")
@operation(summary="Retry the items that a run's loops went on without", returns=schemas.RunOut)
def retry_run_items(run_id: str) -> Any:
    """Try them again in the same run, with the same effect keys; nothing else is done again."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.items_retried", run_id)
        return item_retries.retry(session, who.organization_id, run_id)


@blueprint.post("/runs/<run_id>/look-at-input")
@require("runs:replay")
@operation(
    summary="Look at a corrected input before it is used",
    body=schemas.InputIn,
    returns=schemas.CorrectionOut,
)
def look_at_run_input(run_id: str, body: schemas.InputIn) -> Any:
    """Return what a corrected input changes and what is wrong with it; nothing is kept."""
    who = principal()
    with reading(who.organization_id) as session:
        look = recovery.look_at_correction(session, who.organization_id, run_id, body.input)
    return {
        "is_valid": not look.problems,
        "problems": [{"pointer": one.target, "say": dict(one.say)} for one in look.problems],
        "changes": [asdict(one) for one in look.changes],
    }


@blueprint.post("/runs/<run_id>/cancel")
@require("runs:replay")
@operation(summary="Cancel a run", returns=schemas.RunOut)
def cancel_run(run_id: str) -> Any:
    """Give a run up."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.cancelled", run_id)
        return recovery.cancel(session, who.organization_id, run_id)


@blueprint.post("/runs/replay")
@require("runs:replay")
@operation(summary="Replay parked runs together", body=schemas.BulkIn, returns=schemas.BulkOut)
def replay_runs(body: schemas.BulkIn) -> Any:
    """Try one parked run first; call again with it as `canary` to let the others follow."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "run.bulk_replayed", body.flow_id, detail=body.model_dump())
        if body.canary is None:
            first = recovery.replay_canary(session, who.organization_id, body.flow_id, body.cause)
            return {"canary": first.id, "replayed": 1}
        count = recovery.replay_rest(
            session, who.organization_id, body.flow_id, body.cause, body.canary
        )
        return {"canary": body.canary, "replayed": count}


def _detail(found: runs.Detail) -> dict[str, Any]:
    told = runs.EXPLANATIONS.get(found.run.cause or "") if found.run.state == "parked" else None
    return {
        **schemas.RunOut.model_validate(found.run, from_attributes=True).model_dump(),
        "flow_name": found.flow.name,
        "waits_for": found.waits_for.id if found.waits_for else None,
        "runs_behind": found.behind,
        "path": found.recipe.path_of(found.run.next_step),
        "steps": [
            {
                **{name: getattr(step, name, None) for name in schemas.StepOut.model_fields},
                "title": found.recipe.step_at(position).title,
                "path": found.recipe.path_of(position),
                "called_run": found.called[position].id if position in found.called else None,
                "input": masking.show(step.input),
                "output": masking.show(step.output),
            }
            for position, step in sorted(found.steps.items())
        ],
        "advice": dict(zip(("safe", "who", "what_to_do"), map(gettext, told), strict=True))
        if told
        else None,
    }
