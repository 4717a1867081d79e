"""A flow's document as the steps of a picture."""

from collections.abc import Mapping
from typing import Any

from flask_babel import gettext

from catalog import event_types
from connectors import flow_trees
from connectors.engine import flow_templates
from connectors.flow_documents import action_of
from connectors.pages.drawing import app_of, connector_or_none
from kernel.errors import NotFound
from kernel.web import localized

_STATES = {
    "succeeded": "succeeded",
    "skipped": "filtered",
    "failed": "parked",
    "waiting": "retrying",
    "sending": "sending",
    "open": "running",
}
_KINDS = {
    "filter": "condition",
    "branch": "condition",
    "each": "each",
    "delay": "wait",
    "approval": "wait",
    "wait": "wait",
    "call": "action",
    "store": "action",
}


def picture(
    document: Mapping[str, Any], states: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Return the boxes of a flow's picture; `states` adds how each step of a run went."""
    return [trigger_box(document.get("trigger") or {})] + [
        box_of(place.step, (states or {}).get(place.number))
        for place in flow_trees.walk(document)
        if not place.depth and not place.inside
    ]


def trigger_box(trigger: Mapping[str, Any]) -> dict[str, Any]:
    """Return the box of what starts a flow."""
    connector = connector_or_none(trigger.get("connector"))
    event = str(trigger.get("event") or "")
    named = event_types.lookup(None, None, event) if event else None
    known = connector.triggers.get(trigger.get("trigger") or "") if connector else None
    title = known.title if known else named.title if named else event or gettext("not chosen")
    if trigger.get("kind") == flow_templates.CALLED:
        title = gettext("Called by other flows")
    app = app_of(trigger.get("connector")) if connector else None
    return {
        "app": localized(app["title"]) if app else gettext("Event"),
        "icon": app["icon"] if app else None,
        "slot": app["slot"] if app else None,
        "title": localized(title),
        "kind": "trigger",
        "note": event if known or named else None,
    }


def title_of(step: Mapping[str, Any]) -> str:
    """Return what a step is called: its own title, else its action's, else its kind."""
    if step.get("title"):
        return localized(step["title"])
    if step.get("kind") == "action":
        try:
            return localized(
                action_of(step.get("connector") or "", step.get("action") or "")[1].title
            )
        except NotFound:
            return str(gettext("Action not chosen"))
    words: dict[str, str] = {
        "filter": gettext("Only if"),
        "map": gettext("Shape the data"),
        "branch": gettext("Go one of several ways"),
        "each": gettext("For each item of a list"),
        "delay": gettext("Wait for some time"),
        "approval": gettext("Ask for a decision"),
        "call": gettext("Call another flow"),
        "wait": gettext("Wait for %(event)s", event=step.get("event_type") or "…"),
        "store": gettext("Keep in “%(collection)s”", collection=step.get("collection") or "…"),
    }
    found: str = words.get(step.get("kind", ""), step.get("key", ""))
    return found


def box_of(step: Mapping[str, Any], state: str | None = None) -> dict[str, Any]:
    """Return the box of one step: its app, what it is called, and how many stand inside it."""
    kind = step.get("kind")
    app = app_of(step.get("connector")) if kind == "action" and step.get("connector") else None
    names = {
        "filter": gettext("Condition"),
        "map": gettext("Data"),
        "branch": gettext("Branch"),
        "each": gettext("Loop"),
        "delay": gettext("Delay"),
        "approval": gettext("Approval"),
        "call": gettext("Flow"),
        "wait": gettext("Awaited event"),
        "store": gettext("Data store"),
    }
    return {
        "app": localized(app["title"]) if app else names.get(kind or "", gettext("Action")),
        "icon": app["icon"] if app else None,
        "slot": app["slot"] if app else None,
        "title": title_of(step),
        "kind": _KINDS.get(kind or "", "action"),
        "note": _inside(step),
        "state": _STATES.get(state, state) if state else None,
    }


def _inside(step: Mapping[str, Any]) -> str | None:
    """Say how many steps stand inside a step."""
    count = len(flow_trees.walk({"steps": [step]})) - 1
    return gettext("%(count)d steps inside", count=count) if count else None
