"""Sample events for trying flows: the template's, the trigger's, else the event type's own."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from catalog import event_types
from connectors.engine import flow_templates, loader


def event_for(
    session: Session,
    organization_id: str,
    document: Mapping[str, Any],
    template_key: str | None = None,
) -> dict[str, Any]:
    """Return an event that a flow document may be tried on; its data is {} when nobody has one."""
    trigger = document.get("trigger") or {}
    if trigger.get("kind") == flow_templates.CALLED:
        known_flow = flow_templates.all().get(template_key or "")
        return dict(known_flow.sample) if known_flow else {"type": "flow.called", "data": {}}
    wanted = trigger.get("event") or ""
    source = trigger.get("connector")
    ranked = sorted(
        flow_templates.all().values(),
        key=lambda one: one.document["trigger"].get("connector") != source,
    )  # the same app's first
    for template in ranked:
        is_asked_for = template_key in (None, template.key)
        if is_asked_for and template.document["trigger"].get("event") == wanted:
            return dict(template.sample)
    connector = loader.known(trigger.get("connector") or "")
    known = connector.triggers.get(trigger.get("trigger") or "") if connector else None
    if known is not None and isinstance(known.sample.get("data"), dict):
        return {"type": wanted, "data": known.sample["data"]}
    found = event_types.lookup(session, organization_id, wanted) if wanted else None
    return {"type": wanted, "data": found.sample if found and found.sample else {}}
