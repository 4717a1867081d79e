"""The pages of runs: the list, one run step by step, and what a person can do about it."""

from collections.abc import Callable
from typing import Any

from flask import request
from flask_babel import gettext
from sqlmodel import Session

from connectors import (
    connection_checks,
    corrections,
    flow_paths,
    flows,
    item_retries,
    mapping_rows,
    masking,
    onward,
    recovery,
    runs,
)
from connectors.pages import timeline
from connectors.pages.drawing import blueprint, draw, go, typed
from connectors.pages.pictures import picture
from connectors.tables import Run
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import NotFound, Problem
from kernel.web import page_of

# What the chips of the list stand for.
VIEWS = {
    "moving": runs.MOVING,
    "parked": ("parked",),
    "succeeded": ("succeeded",),
    "skipped": ("skipped",),
    "cancelled": ("cancelled",),
}


@blueprint.get("/runs")
@require("runs:read")
def list_runs() -> Any:
    """Show the runs, filtered, with what is parked grouped by its cause."""
    return _draw_list()


@blueprint.get("/runs/<run_id>")
@require("runs:read")
def show_run(run_id: str) -> Any:
    """Show a run step by step."""
    return _draw_one(run_id)


@blueprint.get("/runs/<run_id>/live")
@require("runs:read")
def show_live(run_id: str) -> Any:
    """Send the part of a run's page that changes; at the end the whole page says what to do."""
    return _draw_one(run_id, template="run_live.html")


@blueprint.post(
    "/runs/<run_id>/<any(retry, again, beginning, done, cancel, onward, leave_out, items):deed>"
)
@require("runs:replay")
def act_on_run(run_id: str, deed: str) -> Any:
    """Retry, repeat, take as done or cancel a run, end its delay, leave out a loop's item."""
    who = principal()
    act, action = _DEEDS[deed]
    try:
        with transaction(who.organization_id) as session:
            moved = act(session, who.organization_id, run_id)
            audit.record(session, who, action, run_id, detail={"how": deed})
    except Problem as problem:
        return _draw_one(run_id, problem=problem)
    said = {"retry": "retried", "cancel": "cancelled"}.get(deed, "replayed")
    return go(f"/runs/{moved.id}", done=said)


@blueprint.post("/runs/<run_id>/from/<step_key>")
@require("runs:replay")
def replay_run_from(run_id: str, step_key: str) -> Any:
    """Run the event once more from a step on; what went before is taken over."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            run = runs.find(session, who.organization_id, run_id)
            made = onward.replay_from(session, run, step_key, principal=who)
            detail = {"how": "from", "step": step_key, "run": made.id}
            audit.record(session, who, "run.replayed", run_id, detail=detail)
    except NotFound:
        raise
    except Problem as problem:
        return _draw_one(run_id, problem=problem)
    return go(f"/runs/{made.id}", done="replayed")


@blueprint.post("/runs/<run_id>/error-path")
@require("runs:replay")
def take_run_error_path(run_id: str) -> Any:
    """Send a run that stopped down the error path of its flow."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            onward.take_error_path(session, who.organization_id, run_id, principal=who)
            audit.record(session, who, "run.error_path_taken", run_id)
    except NotFound:
        raise
    except Problem as problem:
        return _draw_one(run_id, problem=problem)
    return go(f"/runs/{run_id}", done="replayed")


@blueprint.post("/runs/<run_id>/input")
@require("runs:replay")
def edit_run_input(run_id: str) -> Any:
    """Take the corrected input of the step that stopped, and go on."""
    who, text = principal(), request.form.get("input", "")
    try:
        value = mapping_rows.read_yaml(text)
        if typed("do") == "look":
            with reading(who.organization_id) as session:
                look = recovery.look_at_correction(session, who.organization_id, run_id, value)
            return _draw_one(run_id, typed_input=text, look=look)
        with transaction(who.organization_id) as session:
            changed = recovery.edit_input(session, who.organization_id, run_id, value)
            detail = {"step": changed.next_step}
            audit.record(session, who, "run.input_edited", run_id, detail=detail)
    except Problem as problem:
        return _draw_one(run_id, problem=problem, typed_input=text)
    return go(f"/runs/{run_id}", done="replayed")


@blueprint.post("/runs/replay")
@require("runs:replay")
def replay_runs() -> Any:
    """Try the first parked run of a flow and cause, or let the others follow it."""
    who, flow_id, cause = principal(), typed("flow_id"), typed("cause") or None
    canary = typed("canary")
    try:
        with transaction(who.organization_id) as session:
            audit.record(session, who, "run.bulk_replayed", flow_id, detail={"cause": cause})
            if canary:
                recovery.replay_rest(session, who.organization_id, flow_id, cause, canary)
            else:
                first = recovery.replay_canary(session, who.organization_id, flow_id, cause)
    except Problem as problem:
        return _draw_one(canary, problem=problem) if canary else _draw_list(problem)
    if canary:
        return go("/runs", flow=flow_id, done="rest")
    return go(f"/runs/{first.id}", canary_of=cause or "all", done="retried")


def _again(session: Session, organization_id: str, run_id: str) -> Run:
    return recovery.replay_step(session, organization_id, run_id, fresh_effect=True)


def _onward(session: Session, organization_id: str, run_id: str) -> Run:
    return recovery.end_delay(session, organization_id, run_id, principal().name)


_DEEDS: dict[str, tuple[Callable[[Session, str, str], Run], str]] = {
    "retry": (recovery.retry_now, "run.retried"),
    "again": (_again, "run.replayed"),
    "beginning": (recovery.replay_start, "run.replayed"),
    "done": (recovery.mark_done, "run.step_taken_as_done"),
    "cancel": (recovery.cancel, "run.cancelled"),
    "onward": (_onward, "run.delay_ended"),
    "leave_out": (recovery.leave_out_item, "run.item_left_out"),
    "items": (item_retries.retry, "run.items_retried"),
}


def _draw_list(problem: Problem | None = None) -> Any:
    who, given = principal(), request.args
    view = given.get("view", "")
    chosen = runs.select_runs(
        who.organization_id,
        flow_id=given.get("flow"),
        states=VIEWS.get(view, ()),
        event_id=given.get("event"),
        event_type=given.get("type"),
        cause=given.get("cause"),
        incident_id=given.get("incident"),
    )
    with reading(who.organization_id) as session:
        page = page_of(session, chosen, Run.id, cursor=given.get("cursor"), limit=30)
        counts = runs.counts(session, who.organization_id)
        return draw(
            "runs.html",
            problem=problem,
            page=page,
            names=runs.names(session, who.organization_id, page.items),
            subjects=runs.subjects(session, who.organization_id, page.items),
            all_flows=flows.all_of(session, who.organization_id),
            parked=runs.parked_by_cause(session, who.organization_id, given.get("flow")),
            counts={name: sum(counts.get(one, 0) for one in of) for name, of in VIEWS.items()},
            view=view,
        )


def _draw_one(
    run_id: str,
    template: str = "run.html",
    problem: Problem | None = None,
    typed_input: str | None = None,
    look: corrections.Look | None = None,
) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        found = runs.detail(session, who.organization_id, run_id)
        rest = runs.parked_by_cause(session, who.organization_id, found.run.flow_id)
        app_address = connection_checks.address_of(session, who.organization_id, found.run.lane)
    run = found.run
    is_moving = run.state in runs.MOVING
    stopped = found.steps.get(run.next_step)
    told = runs.EXPLANATIONS.get(run.cause or "") if run.state == "parked" else None
    text = typed_input
    if text is None and stopped is not None and stopped.kind == "action":
        text = mapping_rows.to_yaml(stopped.input)
    page = draw(
        template,
        problem=problem,
        no_longer=() if is_moving else ("retried", "replayed"),
        found=found,
        run=run,
        is_moving=is_moving,
        stopped=stopped,
        stopped_item=(flow_paths.items_of(run.next_step) or (None,))[-1],
        may_edit=stopped is not None
        and stopped.kind == "action"
        and not masking.is_cut(stopped.input),
        input_text=text,
        look=look,
        app_address=app_address,
        failed_items=len(item_retries.failed(found.recipe, run, found.steps)),
        advice=[gettext(one) for one in told] if told else None,
        rows=timeline.rows(found),
        picture=picture(
            {**found.document, "trigger": {"event": run.event_type}},
            {position: step.state for position, step in found.steps.items()},
        ),
        parked_beside=sum(number for _, _, number in rest),
    )
    if template == "run_live.html" and not is_moving:
        page.headers["HX-Refresh"] = "true"
    return page
