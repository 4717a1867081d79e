"""The pages of environments: publish to test, look at what would change, promote to live."""

from collections.abc import Callable
from typing import Any

from flask import request
from flask_babel import gettext
from sqlmodel import Session

from connectors import connections, flow_documents, flows, mapping_rows
from connectors.pages.drawing import blueprint, draw, go, typed
from connectors.pages.pictures import title_of
from connectors.stages import environments, publishing
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import NotFound, Problem


@blueprint.get("/flows/<flow_id>/environments")
@require("flows:read")
def show_environments(flow_id: str) -> Any:
    """Show what runs live and in test, which connections each uses, and what would change."""
    return _draw(flow_id)


@blueprint.post("/flows/<flow_id>/<any(to_test, promote, stop_test):deed>")
@require("flows:write")
def change_stage(flow_id: str, deed: str) -> Any:
    """Publish the draft to test, promote what was tested, or stop it there."""
    who = principal()
    act, action = _DEEDS[deed]
    try:
        with transaction(who.organization_id) as session:
            act(session, who.organization_id, flow_id)
            audit.record(session, who, action, flow_id)
    except NotFound:
        raise
    except Problem as problem:
        return _draw(flow_id, problem)
    said = {"to_test": "in_test", "promote": "published", "stop_test": "stopped_in_test"}[deed]
    return go(f"/flows/{flow_id}/environments", done=said)


_DEEDS: dict[str, tuple[Callable[[Session, str, str], Any], str]] = {
    "to_test": (publishing.publish, "flow.published_to_test"),
    "promote": (publishing.promote, "flow.promoted"),
    "stop_test": (publishing.stop, "flow.stopped_in_test"),
}


@blueprint.post("/flows/<flow_id>/environments")
@require("flows:write")
def choose_connections(flow_id: str) -> Any:
    """Take which connection stands in for which one in test, into the draft."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            flow = flows.find(session, who.organization_id, flow_id)
            document = dict(flows.document_of(session, flow))
            chosen = {
                name.removeprefix("for."): value[:40]
                for name, value in request.form.items()
                if name.startswith("for.") and value.strip()
            }
            known = dict(document.get("environments") or {})
            document["environments"] = {**known, "test": {"connections": chosen}}
            flows.save_draft(session, who.organization_id, flow_id, document)
    except NotFound:
        raise
    except Problem as problem:
        return _draw(flow_id, problem)
    return go(f"/flows/{flow_id}/environments", done="saved")


@blueprint.post("/connections/<connection_id>/environment")
@require("connections:write")
def move_connection(connection_id: str) -> Any:
    """Say whether a connection is for live or for test."""
    who, environment = principal(), typed("environment")
    try:
        with transaction(who.organization_id) as session:
            environments.put_connection(session, who.organization_id, connection_id, environment)
            detail = {"environment": environment}
            audit.record(session, who, "connection.moved", connection_id, detail=detail)
    except NotFound:
        raise
    except Problem as problem:
        return draw("stage_refused.html", problem=problem, back=f"/connections/{connection_id}")
    return go(f"/connections/{connection_id}", done="moved")


def _draw(flow_id: str, problem: Problem | None = None) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        document = flows.document_of(session, flow)
        stage = publishing.in_test(session, who.organization_id, flow_id)
        found = publishing.changes(session, who.organization_id, flow_id) if stage else []
        mine = connections.all_of(session, who.organization_id)
    swap = environments.chosen(document, environments.TEST)
    names = {one.id: one for one in mine}
    rows = [
        {
            "connection": names.get(one),
            "id": one,
            "chosen": swap.get(one, ""),
            "options": [
                (other.id, other.name)
                for other in mine
                if other.environment == environments.TEST
                and other.connector_key == getattr(names.get(one), "connector_key", "")
            ],
        }
        for one in flow_documents.connections_in(document)
    ]
    return draw(
        "flow_stages.html",
        problem=problem,
        flow=flow,
        stage=stage,
        rows=rows,
        changes=[
            {
                "kind": one.kind,
                "label": title_of(one.step) if one.step else gettext("When this happens"),
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
