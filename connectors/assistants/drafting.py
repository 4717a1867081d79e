"""Drafting: flows that an assistant writes, checked as the editor's are, and left to a person."""

from collections.abc import Mapping
from typing import Any

from connectors import connections, dry_runs, flows
from connectors.assistants.calls import Told
from connectors.engine import loader
from identity import audit
from identity.principals import Principal
from kernel import documents
from kernel.database import reading, transaction
from kernel.errors import Forbidden
from kernel.settings import settings

MAX_FLOWS = 200


def wiring_facts(who: Principal, language: str) -> Told:
    """Return what a flow can be made of: the connections, their triggers and actions."""
    _need(who, "flows:read", "connections:read")
    with reading(who.organization_id) as session:
        found = connections.all_of(session, who.organization_id)
    told = []
    for one in found:
        connector = loader.known(one.connector_key)
        if connector is None or one.state == "revoked":
            continue
        told.append(
            {
                "connection": one.id,
                "name": one.name,
                "connector": connector.key,
                "state": one.state,
                "triggers": [
                    {"event": trigger.event, "title": trigger.title[language]}
                    for trigger in connector.triggers.values()
                ],
                "actions": [
                    {
                        "action": action.key,
                        "title": action.title[language],
                        "effect": action.effect,
                        "input": action.input,
                        "output": action.output,
                    }
                    for action in connector.actions.values()
                ],
            }
        )
    return Told({"connections": told})


def list_flows(who: Principal) -> Told:
    """Return the organization's flows."""
    _need(who, "flows:read")
    with reading(who.organization_id) as session:
        found = flows.all_of(session, who.organization_id)[:MAX_FLOWS]
    names = ("id", "name", "state", "published_version", "listens_to")
    return Told({"flows": [{name: getattr(one, name) for name in names} for one in found]})


def check_flow(who: Principal, document: Any, language: str) -> Told:
    """Return what keeps a document from being published."""
    _need(who, "flows:read")
    with reading(who.organization_id) as session:
        findings = flows.check(session, who.organization_id, document)
    return Told({"ok": not findings, "problems": in_words(findings, language)})


def try_flow(who: Principal, document: Any, event: Mapping[str, Any], language: str) -> Told:
    """Return what a document would do with an event; nothing is sent."""
    _need(who, "flows:read")
    with reading(who.organization_id) as session:
        tried = dry_runs.dry_run(session, who.organization_id, document, event)
    steps = [
        {
            "key": one.key,
            "kind": one.kind,
            "state": one.state,
            "input": one.input,
            "output": one.output,
            "request": one.request,
            "problem": (one.problem or {}).get("say", {}).get(language) if one.problem else None,
        }
        for one in tried.steps
    ]
    return Told({"ok": tried.ok, "state": tried.state, "steps": steps}, is_error=not tried.ok)


def draft_flow(who: Principal, name: str, document: Any, language: str) -> Told:
    """Save a document as the draft of a new flow; a person reads it and publishes it."""
    _need(who, "flows:write")
    with transaction(who.organization_id) as session:
        flow = flows.create(session, who.organization_id, name, document)
        session.flush()
        findings = flows.check(session, who.organization_id, document)
        audit.record(session, who, "flow.created", flow.id)
        flow_id = flow.id
    page = f"{settings().base_url}/flows/{flow_id}"
    return Told({"flow_id": flow_id, "page": page, "problems": in_words(findings, language)})


def in_words(findings: Any, language: str) -> list[dict[str, Any]]:
    """Return findings as an assistant reads them."""
    return [{"at": one["pointer"], "problem": one["say"][language]} for one in findings][:50]


def _need(who: Principal, *permissions: str) -> None:
    if not all(map(who.may, permissions)):
        raise Forbidden


def is_small(document: Any) -> bool:
    """Tell whether a document is of a size that is worth reading."""
    return len(documents.dump(document)) <= 256 * 1024
