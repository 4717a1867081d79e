"""The pages of flows: list, one flow, a new flow from a template, a trial."""

from datetime import timedelta
from typing import Any

from flask import request
from flask_babel import gettext
from sqlmodel import Session

from connectors import (
    connections,
    dry_runs,
    flow_diffs,
    flow_overviews,
    flow_trees,
    flows,
    mapping_rows,
    nightly_proofs,
    order_lanes,
    runs,
    samples,
)
from connectors.engine import flow_templates
from connectors.errors import Unfit
from connectors.pages.drawing import blueprint, draw, go, typed, typed_under
from connectors.pages.pictures import picture, title_of
from connectors.tables import Flow, Run
from identity import audit
from identity.guard import principal, require
from kernel import clock, documents
from kernel.database import EVERY, reading, transaction
from kernel.errors import Malformed, Problem
from kernel.web import localized, page_of

DAYS = 7


@blueprint.get("/flows")
@require("flows:read")
def list_flows() -> Any:
    """Show the organization's flows: what joins what, and how it goes."""
    who = principal()
    with reading(who.organization_id) as session:
        found = flow_overviews.overviews(
            session, who.organization_id, clock.now() - timedelta(days=DAYS)
        )
    joined = {one.flow.id: flow_overviews.joined(one.document) for one in found}
    return draw("flows.html", flows=found, joined=joined, days=DAYS)


@blueprint.get("/flows/new")
@require("flows:write")
def new_flow() -> Any:
    """Show the templates, or the questions of the chosen one."""
    return _draw_new()


@blueprint.post("/flows")
@require("flows:write")
def create_flow() -> Any:
    """Make a flow from a template and switch it on, or an empty draft for the editor."""
    who, template = principal(), typed("template")
    try:
        with transaction(who.organization_id) as session:
            if template:
                words = flow_templates.find(template).title.values()
                made = flows.create_from_template(
                    session,
                    who.organization_id,
                    template,
                    typed_under("use"),
                    # left as it was offered, it stands in each reader's language
                    name=None if typed("name") in words else typed("name"),
                )
            else:
                document = {"trigger": {"event": typed("event"), "version": None}, "steps": []}
                made = flows.create(session, who.organization_id, typed("name"), document)
            audit.record(session, who, "flow.created", made.id)
            if typed("do") == "publish":
                _publish(session, made.id)
    except Problem as problem:
        return _draw_new(problem)
    if typed("do") == "publish":
        return go(f"/flows/{made.id}", done="published")
    return go(f"/flows/{made.id}/edit")


@blueprint.get("/flows/<flow_id>")
@require("flows:read")
def show_flow(flow_id: str) -> Any:
    """Show a flow as a picture, with its figures, versions and last runs."""
    return _draw_one(flow_id)


@blueprint.post("/flows/<flow_id>/publish")
@require("flows:write")
def publish_flow(flow_id: str) -> Any:
    """Make the draft the version that runs."""
    try:
        with transaction(principal().organization_id) as session:
            _publish(session, flow_id)
    except Problem as problem:
        return _draw_one(flow_id, problem)
    return go(f"/flows/{flow_id}", done="published")


@blueprint.post("/flows/<flow_id>/<any(pause, resume, delete):deed>")
@require("flows:write")
def change_flow(flow_id: str, deed: str) -> Any:
    """Pause a flow, switch it on again, or put it away."""
    who = principal()
    act = {"pause": flows.pause, "resume": flows.resume, "delete": flows.delete}[deed]
    said = {"pause": "paused", "resume": "resumed", "delete": "deleted"}[deed]
    try:
        with transaction(who.organization_id) as session:
            act(session, who.organization_id, flow_id)
            audit.record(session, who, f"flow.{said}", flow_id)
    except Problem as problem:
        return _draw_one(flow_id, problem)
    return go("/flows" if deed == "delete" else f"/flows/{flow_id}", done=said)


@blueprint.post("/flows/<flow_id>/restore")
@require("flows:write")
def restore_flow(flow_id: str) -> Any:
    """Make an earlier version the draft again."""
    who, number = principal(), request.form.get("number", 0, type=int)
    with transaction(who.organization_id) as session:
        flows.restore_version(session, who.organization_id, flow_id, number)
        audit.record(session, who, "flow.version_restored", flow_id, detail={"version": number})
    return go(f"/flows/{flow_id}/edit", done="restored")


@blueprint.get("/flows/<flow_id>/changes")
@require("flows:read")
def show_changes(flow_id: str) -> Any:
    """Show what changed since a version, step by step: up to the draft, else to what runs."""
    who, number = principal(), request.args.get("since", 1, type=int)
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        before = flows.version(session, who.organization_id, flow_id, number).document
        after = flows.document_of(session, flow)
    found = flow_diffs.changes(before, after)
    return draw(
        "flow_changes.html",
        flow=flow,
        number=number,
        against="draft" if flow.draft is not None else "published",
        changes=[
            {
                "kind": one.kind,
                "label": title_of(one.step) if one.step else gettext("When this happens"),
                "key": one.step["key"] if one.step else "",
                "field": one.field,
                "before": _shown(one.before),
                "after": _shown(one.after),
            }
            for one in found
        ],
    )


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else mapping_rows.to_yaml(value).strip()


@blueprint.route("/flows/<flow_id>/try", methods=["GET", "POST"])
@require("flows:read")
def try_flow(flow_id: str) -> Any:
    """Try a flow on a sample event, step by step; nothing is sent."""
    who = principal()
    trial, problem, text = None, None, request.form.get("event", "")
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        document = flows.document_of(session, flow)
        if request.method == "GET":
            sample = samples.event_for(session, who.organization_id, document, flow.template_key)
            text = mapping_rows.to_yaml(sample)
        else:
            try:
                trial = dry_runs.dry_run(session, who.organization_id, document, _event(text))
            except Problem as broken:
                problem = broken
    return draw(
        "flow_try.html",
        problem=problem,
        flow=flow,
        text=text,
        trial=trial,
        picture=picture(document),
    )


def _event(text: str) -> dict[str, Any]:
    """Read a sample event that was typed as JSON or YAML."""
    try:
        value = mapping_rows.read_yaml(text)
    except Unfit:
        value = documents.parse(text.encode())
    if not isinstance(value, dict):
        raise Malformed
    return value


def _publish(session: Session, flow_id: str) -> None:
    who = principal()
    made = flows.publish(session, who.organization_id, flow_id, who.actor_id)
    audit.record(session, who, "flow.published", flow_id, detail={"version": made.number})


def _draw_new(problem: Problem | None = None) -> Any:
    who = principal()
    key = request.form.get("template") or request.args.get("template")
    template = flow_templates.all().get(key or "")
    with reading(EVERY) as session:
        proved = nightly_proofs.all_of(session)
    if template is None:
        found = list(flow_templates.all().values())
        found.sort(key=lambda one: one.key in proved and proved[one.key].state == "failed")
        return draw("flow_choose.html", problem=problem, templates=found, proved=proved)
    with reading(who.organization_id) as session:
        mine = connections.all_of(session, who.organization_id)
    options = {
        connector: [(one.id, one.name) for one in mine if one.connector_key == connector]
        for connector in template.connectors
    }
    return draw(
        "flow_new.html",
        problem=problem,
        template=template,
        proof=proved.get(template.key),
        options=options,
        is_ready=all(options.values()),
        picture=picture(template.document),
    )


@blueprint.get("/operator/templates")
@require("hub:operate")
def show_proofs() -> Any:
    """Show the operator how the ready-made flows' last rehearsals went."""
    with reading(EVERY) as session:
        proved = nightly_proofs.all_of(session)
    found = list(flow_templates.all().values())
    found.sort(key=lambda one: one.key not in proved or proved[one.key].state != "failed")
    return draw("template_proofs.html", templates=found, proved=proved)


def _draw_one(flow_id: str, problem: Problem | None = None) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        flow: Flow = flows.find(session, who.organization_id, flow_id)
        glance = flow_overviews.overview(session, flow, clock.now() - timedelta(days=DAYS))
        recent = page_of(
            session, runs.select_runs(who.organization_id, flow_id=flow_id), Run.id, limit=8
        )
        return draw(
            "flow.html",
            problem=problem,
            flow=flow,
            glance=glance,
            days=DAYS,
            picture=picture(glance.document),
            versions=flows.versions(session, who.organization_id, flow_id),
            recent=recent.items,
            subjects=runs.subjects(session, who.organization_id, recent.items),
            parked=runs.parked_by_cause(session, who.organization_id, flow_id),
            stopped=order_lanes.stopped(session, who.organization_id, flow_id),
            problems=_words(flow.draft, flows.check(session, who.organization_id, flow.draft))
            if flow.draft
            else [],
        )


def _words(document: Any, findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "pointer": one["pointer"],
            "message": localized(one["say"]),
            "step": flow_trees.number_at(document, one["pointer"]),
        }
        for one in findings
    ]
