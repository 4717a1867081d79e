"""Flow documents: how they are made, and the recipe that a run follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from connectors.engine import loader, mapping
from connectors.engine.connector import Action, Connector
from kernel.errors import NotFound


@dataclass(frozen=True)
class Planned:
    """One step of a recipe, ready to be carried out."""

    position: int
    key: str
    kind: str
    title: Any
    body: Any  # the filter's condition, the map's mapping, the action's input
    connector: str | None = None
    connection: str | None = None
    action: str | None = None

    @cached_property
    def plan(self) -> mapping.Plan:
        """Return the mapping of a map or an action's input, read once."""
        return mapping.prepare(self.body)


@dataclass(frozen=True)
class Recipe:
    """A published document as the runner needs it."""

    steps: tuple[Planned, ...]

    def lane_at(self, position: int, otherwise: str) -> str:
        """Return the connection that the first action at or after `position` calls."""
        for step in self.steps[position:]:
            if step.kind == "action" and step.connection:
                return step.connection
        return otherwise

    def position_of(self, key: str) -> int:
        """Return a step's place; NotFound when the recipe has no such step."""
        for step in self.steps:
            if step.key == key:
                return step.position
        raise NotFound


def empty() -> dict[str, Any]:
    """Return a document with nothing in it yet."""
    return {"trigger": {"event": "", "version": None}, "steps": []}


def recipe(document: Mapping[str, Any]) -> Recipe:
    """Turn a checked document into a recipe."""
    body_part = {"filter": "when", "map": "mapping", "action": "input"}
    return Recipe(
        tuple(
            Planned(
                position=position,
                key=step["key"],
                kind=step["kind"],
                title=step.get("title"),
                body=step.get(body_part[step["kind"]]),
                connector=step.get("connector"),
                connection=step.get("connection"),
                action=step.get("action"),
            )
            for position, step in enumerate(document["steps"])
        )
    )


_recipes: dict[str, Recipe] = {}


def recipe_of(version_id: str, document: Mapping[str, Any]) -> Recipe:
    """Return a published version's recipe, kept because versions never change."""
    known = _recipes.get(version_id)
    if known is None:
        if len(_recipes) > 2_000:
            _recipes.clear()
        known = _recipes[version_id] = recipe(document)
    return known


def known_recipe(version_id: str) -> Recipe | None:
    """Return the kept recipe of a version, None when its document was not read yet."""
    return _recipes.get(version_id)


def connections_in(document: Mapping[str, Any]) -> list[str]:
    """List the connections that a document names, each once, in order."""
    found = [(document.get("trigger") or {}).get("connection")]
    found += [step.get("connection") for step in document.get("steps") or () if step]
    return list(dict.fromkeys(one for one in found if one))


def from_template(template: Mapping[str, Any], connections: Mapping[str, str]) -> dict[str, Any]:
    """Fill a template's document with the connections chosen for its connectors."""
    trigger = dict(template["trigger"])
    source = trigger.get("connector")
    if source and source in connections:
        trigger["connection"] = connections[source]
    steps = []
    for step in template["steps"]:
        filled = dict(step)
        if step["kind"] == "action" and step["connector"] in connections:
            filled["connection"] = connections[step["connector"]]
        steps.append(filled)
    return {"trigger": trigger, "steps": steps}


def connectors_needed(template: Mapping[str, Any]) -> list[str]:
    """List the connectors a template joins, the trigger's first, each once."""
    found = [template["trigger"].get("connector")]
    found += [step.get("connector") for step in template["steps"]]
    return list(dict.fromkeys(key for key in found if key))


def action_of(connector_key: str, action_key: str) -> tuple[Connector, Action]:
    """Return a connector and one of its actions; NotFound when either is gone."""
    connector = loader.find(connector_key)
    action = connector.actions.get(action_key)
    if action is None:
        raise NotFound
    return connector, action
