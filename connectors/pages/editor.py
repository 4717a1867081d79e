"""The editor of a flow: a list of steps as a form, and the same document as YAML."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from flask import Response, request
from sqlmodel import Session

from connectors import (
    connections,
    flow_editing,
    flow_forms,
    flow_trees,
    flows,
    mapping_rows,
    ready_maps,
)
from connectors.editing import one_step, picking, trials
from connectors.editing.matching import Proposal
from connectors.engine import loader
from connectors.errors import Unfit
from connectors.pages.drawing import blueprint, draw, go
from connectors.pages.editor_view import View
from connectors.tables import Flow
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.web import localized

EDITOR_COOKIE = "yf_editor"
ONE_YEAR_SECONDS = 31_536_000


@blueprint.get("/flows/<flow_id>/edit")
@require("flows:write")
def edit_flow(flow_id: str) -> Any:
    """Show the draft as a list of steps, or on the canvas for whoever chose that."""
    who, asked = principal(), request.args.get("view")
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        if (asked or request.cookies.get(EDITOR_COOKIE)) == "canvas":
            more = {key: value for key, value in request.args.items() if key != "view"}
            answer = go(f"/flows/{flow_id}/canvas", **more)
        else:
            answer = _draw(session, flow, flows.document_of(session, flow))
    return remember(answer, asked) if asked in ("list", "canvas") else answer


@blueprint.post("/flows/<flow_id>/edit")
@require("flows:write")
def save_flow(flow_id: str) -> Any:
    """Save what the form says, do what its button asks, and show the list again."""
    who, deed = principal(), request.form.get("do", "save")
    try:
        # reading the form and looking for proposals takes its time, and changes nothing
        with reading(who.organization_id) as session:
            known = connections.connectors_by_id(session, who.organization_id)
            document = flow_editing.read_form(request.form, known)
            flow = flows.find(session, who.organization_id, flow_id)
            keep(document, flows.document_of(session, flow))
            fill_trigger(document)
            place = act(document, deed, chosen(session, flow, document, deed))
        with transaction(who.organization_id) as session:
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
    return _show_again(flow_id, place)


def _show_again(flow_id: str, place: int | None) -> Any:
    """Show the list with the sample that was chosen; a pasted one goes along in the page alone."""
    chosen, who = request.form.get("sample", ""), principal()
    if chosen == trials.PASTED:
        with reading(who.organization_id) as session:
            flow = flows.find(session, who.organization_id, flow_id)
            return _draw(session, flow, flows.document_of(session, flow))
    more = {"sample": chosen} if chosen else {}
    if request.cookies.get(EDITOR_COOKIE) == "canvas":
        more["view"] = "list"
    address = f"/flows/{flow_id}/edit" + (f"?{urlencode(more)}" if more else "")
    return go(address + (f"#step-{place}" if place is not None else ""))


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


def act(document: dict[str, Any], deed: str, chosen: Sequence[Proposal] = ()) -> int | None:
    """Do what a button of the form asks with a step; returns the step to look at.

    `add:action@2/0:1` puts an action into a list of step 2, in front of its second one;
    `match:3` fills what is `chosen` of the proposals.
    """
    verb, _, rest = deed.partition(":")
    if verb == "add":
        kind, _, inside = rest.partition("@")
        inside, _, index = inside.partition(":")
        position = int(index) if _is_place(index) else None
        return flow_editing.add_step(document, kind, position, inside)
    number, _, part = rest.partition("/")
    if not _is_place(number):
        return None
    at = int(number)
    if verb in ("up", "down"):
        return flow_editing.move_step(document, at, -1 if verb == "up" else 1)
    if verb == "remove":
        flow_editing.remove_step(document, at)
        return max(0, at - 1)
    if verb == "match":
        one_step.take_over(document, at, chosen)
    elif verb == "way":
        flow_editing.add_way(document, at)
    elif verb == "unway" and _is_place(part):
        flow_editing.remove_way(document, at, int(part))
    elif verb == "ready":
        ready_maps.fill(document, at)
    elif verb != "apply":
        return None
    return at


def chosen(session: Session, flow: Flow, document: dict[str, Any], deed: str) -> list[Proposal]:
    """Return the proposals that a button takes over; [] for every other button.

    `match:3` means those that are sure, `match:3/*` all of them, `match:3/customer.name` one.
    """
    verb, _, rest = deed.partition(":")
    number, _, target = rest.partition("/")
    places = flow_trees.walk(document)
    if verb != "match" or not _is_place(number) or int(number) >= len(places):
        return []
    view = View(session, flow, document)
    return [
        one
        for one in view.proposals(int(number), places[int(number)].step)
        if (target in ("*", one.target) if target else one.is_sure)
    ]


def _is_place(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 4


def keep(document: dict[str, Any], before: dict[str, Any]) -> None:
    """Keep what the form does not show: a title's other language, quotes, the trigger's source."""
    known = {place.step.get("key"): place.step for place in flow_trees.walk(before)}
    for place in flow_trees.walk(document):
        step, old = place.step, known.get(place.step["key"], {})
        _keep_words(step, old)
        if step["kind"] == "call" and old.get("flow") == step["flow"] and old.get("version"):
            step["version"] = old["version"]
        if step["kind"] == "store" and "limit" in old:
            step["limit"] = old["limit"]
        ways = {way["key"]: way for way in old.get("ways") or ()}
        for way in step.get("ways") or ():
            _keep_words(way, ways.get(way["key"], {}))
    if before.get("environments"):
        document["environments"] = before["environments"]
    if before["trigger"].get("source") and "kind" not in document["trigger"]:
        document["trigger"]["source"] = before["trigger"]["source"]


def _keep_words(part: dict[str, Any], old: dict[str, Any]) -> None:
    if old.get("title") and part.get("title") == localized(old["title"]):
        part["title"] = old["title"]
    shown = flow_forms.condition_parts(old.get("when"))
    if shown and shown == flow_forms.condition_parts(part.get("when")):
        part["when"] = old["when"]


def fill_trigger(document: dict[str, Any]) -> None:
    """Take the event from the app's trigger when one was chosen."""
    trigger = document["trigger"]
    connector = loader.known(trigger.get("connector", ""))
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
    session: Session, flow: Flow, document: dict[str, Any], problem: Problem | None = None
) -> Response:
    view = View(session, flow, document)
    common = view.common(problem)
    steps, caught = view.steps(), view.caught()
    every = list(_flat([*steps, *caught]))
    return draw(
        "flow_edit.html",
        steps=steps,
        caught=caught,
        picker=view.picker(every, common["trigger_offers"]),
        picks=[picking.key_of(one) for one in common["trigger_offers"]],
        **common,
    )


def _flat(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        for inner in step["lists"]:
            yield from _flat(inner["steps"])


def remember(answer: Response, editor: str) -> Response:
    """Let the browser remember which editor a person chose."""
    answer.set_cookie(
        EDITOR_COOKIE,
        editor,
        max_age=ONE_YEAR_SECONDS,
        samesite="Lax",
        httponly=True,
        secure=request.is_secure,
    )
    return answer


def _with_lines(text: str, findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "pointer": one["pointer"],
            "message": localized(one["say"]),
            "line": one.get("line") or mapping_rows.line_of(text, one["pointer"]),
        }
        for one in findings
    ]
