"""Flow documents: how they are made, and the recipe that a run follows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from connectors import flow_paths, flow_trees
from connectors.engine import loader, mapping
from connectors.engine.connector import Action, Connector
from connectors.flow_paths import SPAN
from kernel.errors import NotFound

ENDS = -1  # what follows the last step of a way that ends the run, or the item of a loop
ENDS_BADLY = -2  # likewise, of an error path
THE_FLOW = -1  # whoever catches what no step did
_BODIES = {
    "filter": "when",
    "map": "mapping",
    "action": "input",
    "each": "over",
    "delay": "until",
    "call": "input",
}


Guards = tuple[int, ...]  # whose error paths are taken, as in Planned.caught_by


@dataclass(frozen=True)
class Way:
    """One way of a branch, or the one behind a refused approval."""

    key: str
    when: Any  # True for the way of all others
    position: int  # of its first step


@dataclass(frozen=True)
class Planned:
    """One step of a recipe, ready to be carried out."""

    position: int
    key: str
    kind: str
    title: Any
    body: Any  # the filter's condition, the map's mapping, the action's input, the loop's list
    connector: str | None = None
    connection: str | None = None
    action: str | None = None
    follows: int = 0  # where the run goes on; the loop around it, or ENDS
    inside: int | None = None  # the loop around it
    ways: tuple[Way, ...] = ()
    end: int = 0  # the first step behind it and all inside it
    # whose error path is taken when it has finally failed: steps by position, the nearest first
    caught_by: tuple[int, ...] = ()
    on_error: int | None = None  # where its own error path begins
    settings: Mapping[str, Any] = field(default_factory=dict)  # the step as it is written

    @cached_property
    def plan(self) -> mapping.Plan:
        """Return the mapping of a map or an action's input, read once."""
        return mapping.prepare(self.body)

    @property
    def body_end(self) -> int:
        """Return the first step behind those a loop does for each item."""
        path = self.on_error
        return path if path is not None and self.position < path < self.end else self.end

    @cached_property
    def item_key(self) -> mapping.Plan | None:
        """Return what names an item of a loop, None when its number does."""
        written = self.settings.get("item_key")
        return mapping.prepare(written) if written else None


@dataclass(frozen=True)
class Recipe:
    """A published document as the runner needs it."""

    steps: tuple[Planned, ...]
    on_error: int | None = None  # where the flow's own error path begins
    output: Any = None  # what a called flow gives back, as a mapping
    caught: Mapping[str, Any] = field(default_factory=dict)  # the flow's own error path as written

    @cached_property
    def is_straight(self) -> bool:
        """Tell whether the steps come one after another, as they are numbered."""
        return all(
            one.follows == one.position + 1 and not one.ways and one.on_error is None
            for one in self.steps
        )

    @cached_property
    def gives(self) -> mapping.Plan | None:
        """Return the mapping of what a called flow gives back."""
        return None if self.output is None else mapping.prepare(self.output)

    def step_at(self, position: int) -> Planned:
        """Return the step at a run's position."""
        return self.steps[position % SPAN]

    def loops_around(self, position: int) -> list[int]:
        """Return the positions of the loops that a position is inside of, the outermost first."""
        items = flow_paths.items_of(position)
        numbers: list[int] = []
        inside = self.step_at(position).inside
        while inside is not None:
            numbers.insert(0, inside)
            inside = self.steps[inside].inside
        return [flow_paths.position_at(one, items[:depth]) for depth, one in enumerate(numbers)]

    def order_of(self, position: int) -> tuple[int, ...]:
        """Return what sorts positions in the order that a run comes by them."""
        if position % SPAN >= len(self.steps):
            return (position,)
        items = flow_paths.items_of(position)
        key: list[int] = []
        for loop, item in zip(self.loops_around(position), items, strict=False):
            key += [flow_paths.step_of(loop), item]
        return (*key, flow_paths.step_of(position))

    def lane_at(self, position: int, otherwise: str) -> str:
        """Return the connection that the first action at or after `position` calls."""
        for step in self.steps[position % SPAN :]:
            if step.kind == "action" and step.connection:
                return step.connection
        return otherwise

    def path_of(self, position: int) -> str:
        """Return where a position is, in words: `lines[3]/erp`; "" behind the last step."""
        if position % SPAN >= len(self.steps):
            return ""
        step = self.step_at(position)
        parts, items = [step.key], list(flow_paths.items_of(position))
        while step.inside is not None and items:
            step = self.steps[step.inside]
            parts.insert(0, f"{step.key}[{items.pop()}]")
        return "/".join(parts)


def empty() -> dict[str, Any]:
    """Return a document with nothing in it yet."""
    return {"trigger": {"event": "", "version": None}, "steps": []}


def recipe(document: Mapping[str, Any]) -> Recipe:
    """Turn a checked document into a recipe."""
    return _Linking(document).recipe()


class _Linking:
    """Numbers the steps of a document and says where each leads."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.places = flow_trees.walk(document)
        self.numbers = {place.pointer: place.number for place in self.places}
        self.found: dict[int, Planned] = {}

    def recipe(self) -> Recipe:
        document = self.document
        caught = flow_trees.caught_by_flow(document)
        guards = (THE_FLOW,) if caught else ()
        self.link(document["steps"], "/steps", len(self.places), None, guards)
        self.link(caught, "/on_error/steps", ENDS_BADLY, None, ())
        return Recipe(
            tuple(self.found[number] for number in range(len(self.places))),
            self.numbers["/on_error/steps/0"] if caught else None,
            document.get("output"),
            document.get(flow_trees.ON_ERROR) or {},
        )

    def link(
        self, steps: Sequence[Any], pointer: str, then: int, inside: int | None, guards: Guards
    ) -> None:
        """Take up a list of steps, behind which the run goes on at `then`."""
        for index, step in enumerate(steps):
            here = f"{pointer}/{index}"
            number = self.numbers[here]
            follows = self.numbers.get(f"{pointer}/{index + 1}", then)
            path = step.get(flow_trees.ON_ERROR)
            own = (number, *guards) if path else guards
            behind_error = ENDS_BADLY if path and path.get("then") == "end" else follows
            planned = self._planned(step, here, follows, inside)
            begins = self.numbers.get(f"{here}/on_error/steps/0", behind_error) if path else None
            self.found[number] = replace(planned, caught_by=own, on_error=begins)
            for name, below, inner in flow_trees.lists_in(step):
                behind, around, held = follows, inside, guards
                if name == flow_trees.ON_ERROR:
                    behind = behind_error
                elif step["kind"] == "each":
                    behind, around, held = number, number, own
                elif step["kind"] == "approval":
                    behind = ENDS
                self.link(inner, here + below, behind, around, held)

    def _planned(
        self, step: Mapping[str, Any], pointer: str, follows: int, inside: int | None
    ) -> Planned:
        place = self.places[self.numbers[pointer]]
        is_plain = step["kind"] in ("filter", "map", "action")
        return Planned(
            position=place.number,
            key=step["key"],
            kind=step["kind"],
            title=step.get("title"),
            body=step.get(_BODIES.get(step["kind"], "")),
            connector=step.get("connector"),
            connection=step.get("connection"),
            action=step.get("action"),
            follows=follows,
            inside=inside,
            ways=tuple(_ways(step, pointer, follows, self.numbers)),
            end=_end(place, self.places),
            settings={} if is_plain and flow_trees.ON_ERROR not in step else step,
        )


def _end(place: flow_trees.Place, places: Sequence[flow_trees.Place]) -> int:
    behind = (one.number for one in places[place.number + 1 :] if one.depth <= place.depth)
    return next(behind, len(places))


def _ways(
    step: Mapping[str, Any], pointer: str, follows: int, numbers: Mapping[str, int]
) -> Iterator[Way]:
    for name, below, _ in flow_trees.lists_in(step):
        first = numbers.get(f"{pointer}{below}/0", follows)
        if step["kind"] == "branch":
            is_rest = name == flow_trees.OTHERWISE
            way = {"key": name, "when": True} if is_rest else step["ways"][int(name)]
            yield Way(str(way["key"]), way.get("when"), first)
        elif step["kind"] == "approval" and first != follows:
            yield Way(name, True, first)


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
    found += [place.step.get("connection") for place in flow_trees.walk(document)]
    return list(dict.fromkeys(one for one in found if one))


def from_template(template: Mapping[str, Any], connections: Mapping[str, str]) -> dict[str, Any]:
    """Fill a template's document with the connections chosen for its connectors."""
    trigger = dict(template["trigger"])
    source = trigger.get("connector")
    if source and source in connections:
        trigger["connection"] = connections[source]
    return {**flow_trees.filled(template, connections), "trigger": trigger}


def connectors_needed(template: Mapping[str, Any]) -> list[str]:
    """List the connectors a template joins, the trigger's first, each once."""
    found = [template["trigger"].get("connector")]
    found += [place.step.get("connector") for place in flow_trees.walk(template)]
    return list(dict.fromkeys(key for key in found if key))


def action_of(connector_key: str, action_key: str) -> tuple[Connector, Action]:
    """Return a connector and one of its actions; NotFound when either is gone."""
    connector = loader.find(connector_key)
    action = connector.actions.get(action_key)
    if action is None:
        raise NotFound
    return connector, action
