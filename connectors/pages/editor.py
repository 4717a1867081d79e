"""The editor of a flow: a list of steps as a form, and the same document as YAML."""

from typing import Any

from flask import request
from flask_babel import gettext
from sqlmodel import Session

from catalog import event_types
from connectors import (
    connections,
    durations,
    field_paths,
    flow_editing,
    flow_forms,
    flow_trees,
    flows,
    mapping_rows,
    ready_maps,
)
from connectors.engine import loader
from connectors.errors import Unfit
from connectors.pages.drawing import blueprint, draw, go
from connectors.pages.pictures import title_of
from connectors.pages.timeline import way_title
from connectors.tables import Connection
from identity import members
from identity.guard import principal, require
from identity.roles import ROLE_TITLES, ROLES
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.web import localized

_DURATIONS = ("for", "deadline", "remind")


@blueprint.get("/flows/<flow_id>/edit")
@require("flows:write")
def edit_flow(flow_id: str) -> Any:
    """Show the draft as a list of steps."""
    who = principal()
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        return _draw(session, flow, flows.document_of(session, flow))


@blueprint.post("/flows/<flow_id>/edit")
@require("flows:write")
def save_flow(flow_id: str) -> Any:
    """Save what the form says, do what its button asks, and show the list again."""
    who, deed = principal(), request.form.get("do", "save")
    try:
        with transaction(who.organization_id) as session:
            known = connections.connectors_by_id(session, who.organization_id)
            document = flow_editing.read_form(request.form, known)
            flow = flows.find(session, who.organization_id, flow_id)
            _keep(document, flows.document_of(session, flow))
            place = _act(document, deed)
            _fill_trigger(document)
            revision = request.form.get("revision", type=int)
            if request.form.get("name", "").strip():
                flows.rename(session, who.organization_id, flow_id, request.form["name"])
            flows.save_draft(session, who.organization_id, flow_id, document, revision)
    except Problem as problem:
        return _refuse(flow_id, problem)
    if deed == "try":
        return go(f"/flows/{flow_id}/try")
    if deed == "publish":
        return go(f"/flows/{flow_id}", done="saved")
    return go(f"/flows/{flow_id}/edit" + (f"#step-{place}" if place is not None else ""))


@blueprint.get("/flows/<flow_id>/edit/yaml")
@require("flows:write")
def edit_yaml(flow_id: str) -> Any:
    """Show the draft as YAML."""
    who = principal()
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        document = flows.document_of(session, flow)
        text = mapping_rows.to_yaml(document)
        found = _with_lines(text, flows.check(session, who.organization_id, document))
    return draw("flow_yaml.html", flow=flow, text=text, problems=found)


@blueprint.post("/flows/<flow_id>/edit/yaml")
@require("flows:write")
def save_yaml(flow_id: str) -> Any:
    """Save the draft that was written as YAML; every mistake is told with its line."""
    who, text = principal(), request.form.get("yaml", "").replace("\r\n", "\n")
    try:
        document = mapping_rows.read_yaml(text)
        with transaction(who.organization_id) as session:
            found = flows.save_draft(
                session,
                who.organization_id,
                flow_id,
                document,
                request.form.get("revision", type=int),
            )
            flow = flows.find(session, who.organization_id, flow_id)
    except Problem as problem:
        with reading(who.organization_id) as session:
            flow = flows.find(session, who.organization_id, flow_id)
        findings = problem.findings if isinstance(problem, Unfit) else []
        problems = _with_lines(text, findings)
        return draw("flow_yaml.html", problem=problem, flow=flow, text=text, problems=problems)
    shown = _with_lines(text, found)
    return draw("flow_yaml.html", flow=flow, text=text, problems=shown, is_saved=True)


def _act(document: dict[str, Any], deed: str) -> int | None:
    """Do what a button of the form asks with a step; returns the step to look at."""
    verb, _, rest = deed.partition(":")
    if verb == "add":
        kind, _, inside = rest.partition("@")
        return flow_editing.add_step(document, kind, inside=inside)
    number, _, way = rest.partition("/")
    if not _is_place(number):
        return None
    at = int(number)
    if verb in ("up", "down"):
        return flow_editing.move_step(document, at, -1 if verb == "up" else 1)
    if verb == "remove":
        flow_editing.remove_step(document, at)
        return max(0, at - 1)
    if verb == "way":
        flow_editing.add_way(document, at)
    elif verb == "unway" and _is_place(way):
        flow_editing.remove_way(document, at, int(way))
    elif verb == "ready":
        ready_maps.fill(document, at)
    elif verb != "apply":
        return None
    return at


def _is_place(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 4


def _keep(document: dict[str, Any], before: dict[str, Any]) -> None:
    """Keep what the form does not show: a title's other language, quotes, the trigger's source."""
    known = {place.step.get("key"): place.step for place in flow_trees.walk(before)}
    for place in flow_trees.walk(document):
        step, old = place.step, known.get(place.step["key"], {})
        _keep_words(step, old)
        ways = {way["key"]: way for way in old.get("ways") or ()}
        for way in step.get("ways") or ():
            _keep_words(way, ways.get(way["key"], {}))
    if before["trigger"].get("source"):
        document["trigger"]["source"] = before["trigger"]["source"]


def _keep_words(part: dict[str, Any], old: dict[str, Any]) -> None:
    if old.get("title") and part.get("title") == localized(old["title"]):
        part["title"] = old["title"]
    shown = flow_forms.condition_parts(old.get("when"))
    if shown and shown == flow_forms.condition_parts(part.get("when")):
        part["when"] = old["when"]


def _fill_trigger(document: dict[str, Any]) -> None:
    """Take the event from the app's trigger when one was chosen."""
    trigger = document["trigger"]
    connector = loader.library().get(trigger.get("connector", ""))
    known = connector.triggers.get(trigger.get("trigger", "")) if connector else None
    if known is not None and not known.event.endswith("*"):
        trigger["event"], trigger["version"] = known.event, known.version


def _refuse(flow_id: str, problem: Problem) -> Any:
    """Show the form again as it was sent; what cannot be read is shown as it was saved."""
    who = principal()
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        try:
            known = connections.connectors_by_id(session, who.organization_id)
            document = flow_editing.read_form(request.form, known)
        except Problem:
            document = flows.document_of(session, flow)
        return _draw(session, flow, document, problem)


def _draw(
    session: Session, flow: Any, document: dict[str, Any], problem: Problem | None = None
) -> Any:
    owner = flow.organization_id
    mine = connections.all_of(session, owner)
    schema = flows.event_schema(session, owner, document)
    found = flows.check(session, owner, document)
    return draw(
        "flow_edit.html",
        problem=problem,
        flow=flow,
        document=document,
        steps=_steps(document, schema),
        count=len(flow_trees.walk(document)),
        seats=[(seat.id, seat.name) for seat in members.list_seats(session, owner)],
        roles=[(role, gettext(ROLE_TITLES[role])) for role in ROLES],
        units=[
            ("m", gettext("minutes")),
            ("h", gettext("hours")),
            ("d", gettext("days")),
            ("s", gettext("seconds")),
        ],
        connections=[(one.id, one.name) for one in mine],
        actions=_actions(mine),
        events=event_types.all_types(session, owner),
        triggers=_triggers(mine),
        operators=flow_forms.OPERATORS,
        order=flow_editing.order_parts(document["trigger"]),
        offers=field_paths.offers(document, 0, schema),
        problems=[
            {
                "step": flow_trees.number_at(document, one["pointer"]),
                "message": localized(one["say"]),
                "pointer": one["pointer"],
            }
            for one in found
        ],
    )


def _steps(document: dict[str, Any], schema: Any) -> list[dict[str, Any]]:
    """Return the flow's own steps as the form shows them, each with the lists inside it."""
    shown: list[dict[str, Any]] = []
    top: list[dict[str, Any]] = []
    for place in flow_trees.walk(document):
        step = _step(document, place, schema)
        shown.append(step)
        if not place.inside:
            top.append(step)
            continue
        around, _, name = place.inside.partition("/")
        inner = next(one for one in shown[int(around)]["lists"] if one["name"] == name)
        inner["steps"].append(step)
    return top


def _lists(step: dict[str, Any], number: int) -> list[dict[str, Any]]:
    names = [name for name, _, _ in flow_trees.lists_in(step)]
    if step["kind"] == "approval" and flow_trees.REFUSED not in names:
        names.append(flow_trees.REFUSED)
    if step["kind"] == "branch" and flow_trees.OTHERWISE not in names:
        names.append(flow_trees.OTHERWISE)
    ways = step.get("ways") or []
    found: list[dict[str, Any]] = []
    for name in names:
        way = ways[int(name)] if name.isdigit() else None
        title = way_title(step, way["key"] if way else name) if step["kind"] != "each" else ""
        found.append(
            {
                "name": name,
                "inside": f"{number}/{name}",
                "title": title,
                "way": way,
                "parts": flow_forms.condition_parts(way.get("when")) if way else None,
                "steps": [],
            }
        )
    return found


def _step(document: dict[str, Any], place: flow_trees.Place, schema: Any) -> dict[str, Any]:
    step, number = place.step, place.number
    body = step.get("mapping" if step["kind"] == "map" else "input")
    rows = mapping_rows.rows_of(body) if step["kind"] in ("map", "action") else []
    if step["kind"] == "action":
        fields = field_paths.wanted(step.get("connector"), step.get("action"))
        rows = flow_editing.rows_for(rows, fields)
    if not (rows and rows[0].target == ""):
        rows = [*rows, mapping_rows.Row("", "text", "")]
    return {
        **step,
        "number": number,
        "inside": place.inside,
        "is_first": place.index == 0,
        "is_last": place.index == len(place.siblings) - 1,
        "label": title_of(step),
        "title": localized(step["title"]) if step.get("title") else "",
        "rows": rows,
        "parts": flow_forms.condition_parts(step.get("when")),
        "durations": {name: durations.parts(step.get(name)) for name in _DURATIONS},
        "lists": _lists(step, number),
        "ready": ready_maps.for_step(document, step),
        "offers": field_paths.offers(document, number, schema),
    }


def _actions(mine: list[Connection]) -> list[tuple[str, str]]:
    """List what the organization's connections can do, as choices."""
    known = [loader.library().get(key) for key in dict.fromkeys(one.connector_key for one in mine)]
    return [
        (f"{one.key}|{action.key}", f"{localized(one.title)} · {localized(action.title)}")
        for one in known
        if one is not None
        for action in one.actions.values()
    ]


def _triggers(mine: list[Connection]) -> list[tuple[str, str]]:
    """List what the organization's connections can start a flow with, as choices."""
    found = []
    for one in mine:
        connector = loader.library().get(one.connector_key)
        for trigger in connector.triggers.values() if connector else ():
            value = f"{one.id}|{one.connector_key}|{trigger.key}"
            found.append((value, f"{one.name} · {localized(trigger.title)}"))
    return found


def _with_lines(text: str, findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "pointer": one["pointer"],
            "message": localized(one["say"]),
            "line": one.get("line") or mapping_rows.line_of(text, one["pointer"]),
        }
        for one in findings
    ]
