"""Flow problems: what keeps a document of an organization from being published."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlmodel import Session

from catalog import event_types
from connectors import connections, flow_checks, flow_shapes
from connectors.engine import flow_templates
from connectors.engine.flow_rests import Called, World
from connectors.resting import callables
from connectors.stages import environments
from identity import members


def check(
    session: Session,
    organization_id: str,
    document: Any,
    flow_id: str | None = None,
    environment: str = environments.LIVE,
) -> list[dict[str, Any]]:
    """Return what keeps a document from being published: {pointer, say} each."""
    schema = event_schema(session, organization_id, document)
    usable = connections.connectors_by_id(session, organization_id)
    seats = [seat.id for seat in members.list_seats(session, organization_id)]
    readable = not flow_shapes.check_shape(document)
    called: Mapping[str, Called] = {}
    if readable:
        called = callables.by_name(session, organization_id, document, environment)
    world = World(called, partial(_data_of, session, organization_id))
    found = flow_checks.check(document, schema, usable, seats, world)
    return found + list(callables.check(document, called, flow_id)) if readable else found


def _data_of(session: Session, organization_id: str, name: str) -> Any:
    known = event_types.lookup(session, organization_id, name) if name else None
    return known.schema if known else None


def event_schema(session: Session, organization_id: str, document: Any) -> Mapping[str, Any] | None:
    """Return the schema of the data that a document's event carries, None when nobody knows it."""
    trigger = document.get("trigger") if isinstance(document, dict) else None
    if not isinstance(trigger, dict):
        return None
    own: Any = flow_templates.event_schema(document)
    if own is not None:
        found: Mapping[str, Any] = own
        return found
    if not isinstance(trigger.get("event"), str):
        return None
    wanted = trigger.get("version")
    known = event_types.lookup(
        session, organization_id, trigger["event"], wanted if isinstance(wanted, int) else None
    )
    return known.schema if known else None
