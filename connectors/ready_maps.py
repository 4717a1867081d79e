"""Ready mappings in flows: what fills an action's fields at once from one of the hub's events."""

from collections.abc import Mapping
from typing import Any

from connectors import flow_trees
from connectors.engine import loader
from connectors.engine.declared import ReadyMap


def for_step(document: Mapping[str, Any], step: Mapping[str, Any]) -> ReadyMap | None:
    """Return the mapping that its connector has ready for an action and the flow's event."""
    if step.get("kind") != "action":
        return None
    trigger = document.get("trigger") or {}
    found = offered(step.get("connector") or "", step.get("action") or "")
    fitting = [one for one in found if one.event == trigger.get("event")]
    version = trigger.get("version")
    return next((one for one in fitting if version in (None, one.version)), None)


def offered(connector_key: str, action_key: str) -> list[ReadyMap]:
    """Return the mappings that lead to an action."""
    connector = loader.known(connector_key)
    if connector is None:
        return []
    return [one for one in connector.maps.values() if one.action == action_key]


def fill(document: Mapping[str, Any], number: int) -> bool:
    """Fill what is still empty of a step's input; what a person set stays. Tells whether it did."""
    places = flow_trees.walk(document)
    step = places[number].step if 0 <= number < len(places) else {}
    ready = for_step(document, step)
    if ready is None:
        return False
    rules = ready.rules["object"]
    given = step.get("input")
    step["input"] = _beside(given, rules) if isinstance(given, Mapping) else dict(rules)
    return True


def _beside(given: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
    """Put what is ready beside what was set; inside an object, field by field."""
    filled = dict(given)
    for name, rule in rules.items():
        if name not in filled:
            filled[name] = rule
        elif _is_fields(filled[name]) and _is_fields(rule):
            filled[name] = _beside(filled[name], rule)
    return filled


def _is_fields(node: Any) -> bool:
    operators = {"each", "when", "value", "optional", "const", "rest", "code_table", "object"}
    return isinstance(node, Mapping) and not operators & set(node)
