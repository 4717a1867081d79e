"""The canvas: a flow as boxes and lines to walk about in, with the form of one step beside it."""

from typing import Any

from flask import Response, request
from flask_babel import gettext
from sqlmodel import Session

from connectors import connections, flow_forms, flow_trees, flows, masking
from connectors.editing import layout, one_step, picking, trials
from connectors.flow_shapes import KINDS
from connectors.pages import editor
from connectors.pages.drawing import blueprint, draw, go
from connectors.pages.editor_view import View, list_title, plain
from connectors.pages.pictures import box_of, title_of, trigger_box
from connectors.tables import Flow
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import Problem

TRIGGER = one_step.TRIGGER


@blueprint.get("/flows/<flow_id>/canvas")
@require("flows:write")
def show_canvas(flow_id: str) -> Any:
    """Show the draft on the canvas; with `part`, the panel of another step alone."""
    return _draw(flow_id, request.args.get("about", TRIGGER))


@blueprint.post("/flows/<flow_id>/canvas")
@require("flows:write")
def save_on_canvas(flow_id: str) -> Any:
    """Save the part of the draft that the panel is about, and do what its button asks."""
    who, form = principal(), request.form
    about, deed = form.get("about", TRIGGER), form.get("do", "save")
    place: int | None = None
    try:
        with reading(who.organization_id) as session:
            known = connections.connectors_by_id(session, who.organization_id)
            flow = flows.find(session, who.organization_id, flow_id)
            before = flows.document_of(session, flow)
            document = one_step.put(before, about, form, known)
            editor.keep(document, before)
            if about == TRIGGER:
                editor.fill_trigger(document)
            revision = form.get("revision", flow.draft_revision, type=int)
            taken = editor.chosen(session, flow, document, deed)
            place = editor.act(document, deed, taken)
        with transaction(who.organization_id) as session:
            if about == TRIGGER and form.get("name", "").strip():
                flows.rename(session, who.organization_id, flow_id, form["name"])
            if document != before:
                flows.save_draft(session, who.organization_id, flow_id, document, revision)
            count = len(flow_trees.walk(document))
    except Problem as problem:
        return _draw(flow_id, about, problem)
    if deed.startswith("remove:") and not count:
        place = None
    about = str(place) if place is not None else form.get("show") or about
    if form.get("part"):
        return _draw(flow_id, about)
    ways = {
        "try": (f"/flows/{flow_id}/try", {}),
        "publish": (f"/flows/{flow_id}", {"done": "saved"}),
    }
    path, more = ways.get(deed, (f"/flows/{flow_id}/canvas", {"about": about}))
    if deed not in ways and form.get("sample") not in (None, "", trials.PASTED):
        more["sample"] = form["sample"]
    return go(path, **more)


def _draw(flow_id: str, about: str, problem: Problem | None = None) -> Response:
    who = principal()
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        return _draw_flow(session, flow, about, problem)


def _draw_flow(session: Session, flow: Flow, about: str, problem: Problem | None) -> Response:
    document = flows.document_of(session, flow)
    view = View(session, flow, document)
    number = flow_forms.number_in(about) if about.isdigit() else None
    count = len(flow_trees.walk(document))
    number = number if number is not None and number < count else None
    common = view.common(problem)
    steps = view.steps(-1 if number is None else number)
    step = steps[number] if number is not None else None
    picture = _picture(view, number)
    drawn = {one["inside"] for one in picture["nodes"] if "inside" in one}
    for inner in step["lists"] if step else ():
        inner["drawn"] = inner["inside"] in drawn
    picks = common["trigger_offers"] if step is None else []
    return draw(
        "canvas_studio.html" if request.values.get("part") else "canvas.html",
        about=TRIGGER if number is None else str(number),
        step=step,
        picture=picture,
        shown_event=masking.show(masking.keep(view.trial.event, ())),
        kinds=[(kind, title_of({"kind": kind, "key": kind}), _example(kind)) for kind in KINDS],
        picker=view.picker([step] if step else [], picks),
        picks=[picking.key_of(one) for one in picks],
        **common,
    )


def _example(kind: str) -> str:
    """Return what kind of thing a step of a kind is, for the list of steps to add."""
    return str(box_of({"kind": kind, "key": kind})["app"])


def _picture(view: View, chosen: int | None) -> dict[str, Any]:
    """Return what the canvas draws, and everything that stands in its boxes."""
    document = view.document
    places = {place.pointer: place for place in flow_trees.walk(document)}
    made = layout.picture(document)
    for node in made.nodes:
        if node["type"] == "trigger":
            node.update(trigger_box(document.get("trigger") or {}))
            node.update(type="trigger", about=TRIGGER, add=":0")
            node["mistakes"] = _mistakes(view, None)
            node["into"] = picking.shown(masking.show(view.trial.event.get("data")))
        elif node["type"] == "step":
            place = places.get(node["pointer"])
            node.update(_in_step(view, node, place))
        elif node["type"] == "into":
            around = places.get(node["around"])
            title = list_title(around.step, node["list"]) if around is not None else ""
            node["title"] = title or (gettext("For each item") if node["shape"] == "round" else "")
            if node["inside"] == flow_trees.OF_THE_FLOW:
                node["title"] = gettext("When a step has failed for good")
            node["add"] = f"{node['inside']}:0" if node["inside"] else None
    return {
        "nodes": made.nodes,
        "edges": made.edges,
        "chosen": TRIGGER if chosen is None else str(chosen),
        "revision": view.flow.draft_revision,
    }


def _in_step(view: View, node: dict[str, Any], place: flow_trees.Place | None) -> dict[str, Any]:
    """Return what stands in the box of a step; one nobody can edit has no number."""
    if place is None:
        return {"title": node["pointer"], "app": "", "mistakes": [], "about": None, "add": None}
    outcome = view.trial.steps.get(place.number)
    box = box_of(place.step)
    return {
        **{name: box[name] for name in ("app", "icon", "slot", "title", "note")},
        "kind": place.step["kind"],
        "key": place.step["key"],
        "about": str(place.number),
        "add": f"{place.inside}:{place.index + 1}",
        "is_first": place.index == 0,
        "is_last": place.index == len(place.siblings) - 1,
        "mistakes": _mistakes(view, place.number),
        "state": outcome.state if outcome else "",
        "into": picking.shown(outcome.input) if outcome and outcome.input is not None else "",
        "out": picking.shown(outcome.output) if outcome and outcome.output is not None else "",
        "is_sample": bool(outcome and outcome.is_sample),
        "say": plain(outcome.say) if outcome and outcome.say else "",
    }


def _mistakes(view: View, number: int | None) -> list[str]:
    return [
        one["message"]
        for one in view.findings
        if one["step"] == number and (number is not None or one["pointer"].startswith("/trigger"))
    ]
