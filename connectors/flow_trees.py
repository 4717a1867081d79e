"""Flow trees: the steps of a document with those inside others, in the order they are written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Steps = list[Any]
# What the lists of steps inside a step are called: a branch's ways by number, and these.
OTHERWISE, BODY, REFUSED = "else", "steps", "refused"
ON_ERROR = "on_error"  # what is done when a step, or the flow, has finally failed
OF_THE_FLOW = f"flow/{ON_ERROR}"  # Place.inside of the steps that the flow itself has for that
CATCHING = ("action", "call", "each", "store")  # steps that may have an error path


@dataclass(frozen=True)
class Place:
    """A step and where it stands."""

    number: int  # in the order of reading, from 0
    step: dict[str, Any]
    pointer: str  # "/steps/2/ways/0/steps/1"
    siblings: Steps  # the list that holds it
    index: int  # in that list
    depth: int  # how many steps it is inside of
    inside: str = ""  # "<number of the step around it>/<which of its lists>"


def lists_in(step: Any) -> list[tuple[str, str, Steps]]:
    """Return the lists of steps inside a step: (name, pointer below the step, list) each."""
    if not isinstance(step, Mapping):
        return []
    kind = step.get("kind")
    found: list[tuple[str, str, Any]] = []
    if kind == "branch":
        ways = step.get("ways")
        for number, way in enumerate(ways if isinstance(ways, list) else ()):
            if isinstance(way, Mapping):
                found.append((str(number), f"/ways/{number}/steps", way.get("steps")))
        found.append((OTHERWISE, "/else", step.get("else")))
    elif kind == "each":
        found.append((BODY, "/steps", step.get("steps")))
    elif kind == "approval":
        found.append((REFUSED, "/refused", step.get("refused")))
    if kind in CATCHING and isinstance(step.get(ON_ERROR), Mapping):
        found.append((ON_ERROR, "/on_error/steps", step[ON_ERROR].get("steps")))
    return [(name, pointer, steps) for name, pointer, steps in found if isinstance(steps, list)]


def walk(document: Mapping[str, Any]) -> list[Place]:
    """Return every step of a document, those inside others right behind the one around them."""
    steps = document.get("steps")
    found: list[Place] = []
    _walk(steps if isinstance(steps, list) else [], "/steps", 0, "", found)
    _walk(caught_by_flow(document), "/on_error/steps", 0, OF_THE_FLOW, found)
    return found


def caught_by_flow(document: Mapping[str, Any]) -> Steps:
    """Return the steps that a flow does when it has finally failed."""
    path = document.get(ON_ERROR)
    steps = path.get("steps") if isinstance(path, Mapping) else None
    return steps if isinstance(steps, list) else []


def _walk(steps: Steps, pointer: str, depth: int, inside: str, found: list[Place]) -> None:
    for index, step in enumerate(steps):
        if not isinstance(step, dict):
            continue
        here, number = f"{pointer}/{index}", len(found)
        found.append(Place(number, step, here, steps, index, depth, inside))
        for name, below, inner in lists_in(step):
            _walk(inner, here + below, depth + 1, f"{number}/{name}", found)


def number_at(document: Mapping[str, Any], pointer: str) -> int | None:
    """Return the number of the step that a pointer leads into; None for what is about no step."""
    best: Place | None = None
    for place in walk(document):
        is_in = pointer == place.pointer or pointer.startswith(place.pointer + "/")
        if is_in and (best is None or len(place.pointer) > len(best.pointer)):
            best = place
    return best.number if best else None


def filled(document: Mapping[str, Any], connections: Mapping[str, str]) -> dict[str, Any]:
    """Return a copy of a document, each action with the connection of its connector."""

    def fill(step: Mapping[str, Any]) -> dict[str, Any]:
        if step["kind"] == "action" and step["connector"] in connections:
            return {**step, "connection": connections[step["connector"]]}
        return dict(step)

    return changed(document, fill)


def changed(
    document: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Return a copy of a document in which every step is what `change` makes of it."""
    made = {**document, "steps": [_changed(step, change) for step in document["steps"]]}
    if caught_by_flow(document):
        steps = [_changed(step, change) for step in caught_by_flow(document)]
        made[ON_ERROR] = {**document[ON_ERROR], "steps": steps}
    return made


def _changed(
    step: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    made = change(step)
    if isinstance(made.get("ways"), list):
        made["ways"] = [
            {**way, "steps": [_changed(one, change) for one in way["steps"]]}
            for way in made["ways"]
        ]
    for name in (OTHERWISE, BODY, REFUSED):
        if isinstance(made.get(name), list):
            made[name] = [_changed(one, change) for one in made[name]]
    path = made.get(ON_ERROR)
    if isinstance(path, Mapping) and isinstance(path.get("steps"), list):
        made[ON_ERROR] = {**path, "steps": [_changed(one, change) for one in path["steps"]]}
    return made
