"""Incidents in words and links, as pages and the API show them."""

from collections.abc import Sequence
from typing import Any

from flask_babel import gettext
from sqlalchemy import select
from sqlmodel import Session, col

from connectors.incidents import causes
from connectors.incidents.tables import Incident
from connectors.pages.drawing import connector_or_none
from connectors.tables import Connection, Flow
from kernel.web import localized
from webhooks.tables import Endpoint, Source


def words(incident: Incident) -> dict[str, str]:
    """Return what happened, what is safe, who acts and what to do, for the reader."""
    safe, todo = causes.advice_on(incident.kind, incident.cause)
    title = gettext(causes.title_of(incident.kind, incident.cause))
    actor = causes.actor_of(incident.kind, incident.cause)
    return {
        "title": title,
        "sentence": localized(incident.say) if incident.say else title,
        "safe": gettext(safe),
        "todo": gettext(todo),
        "actor": gettext(causes.ACTORS[actor]),
        "actor_key": actor,
        "code": causes.shown(incident.code),
    }


def place(incident: Incident, names: dict[str, str]) -> str:
    """Return where it happened: the app and action, the endpoint or the source."""
    if incident.kind == "delivery":
        return names.get(incident.endpoint_id or "", str(incident.endpoint_id))
    if incident.kind == "refusal":
        return names.get(incident.source_id or "", str(incident.source_id))
    connector = connector_or_none(incident.connector_key)
    if connector is None:
        return names.get(incident.connection_id or "") or str(gettext("A step of the hub's own"))
    action = connector.actions.get(incident.action_key or "")
    where = localized(connector.title)
    return f"{where} · {localized(action.title)}" if action else where


def names(session: Session, organization_id: str, found: Sequence[Incident]) -> dict[str, str]:
    """Return what connections, flows, endpoints and sources of incidents are called, by id."""
    looks: list[tuple[Any, Any, set[str]]] = [
        (Connection, col(Connection.name), {i.connection_id or "" for i in found}),
        (Flow, col(Flow.name), {one for i in found for one in i.flow_ids}),
        (Endpoint, col(Endpoint.url), {i.endpoint_id or "" for i in found}),
        (Source, col(Source.name), {i.source_id or "" for i in found}),
    ]
    known: dict[str, str] = {}
    for model, name, wanted in looks:
        statement = select(col(model.id), name).where(
            col(model.organization_id) == organization_id, col(model.id).in_(sorted(wanted - {""}))
        )
        known.update({row[0]: row[1] for row in session.execute(statement)})
    return known


def out(incident: Incident) -> dict[str, Any]:
    """Return an incident as the API gives it."""
    told = words(incident)
    return {
        **incident.model_dump(),
        "code": told["code"],
        "title": told["title"],
        "sentence": told["sentence"],
        "safe": told["safe"],
        "what_to_do": told["todo"],
        "who_acts": told["actor_key"],
        "connector": incident.connector_key,
        "action": incident.action_key,
        "by_hour": incident.tally,
    }
