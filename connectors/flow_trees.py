"""Flow trees: the steps of a document with those inside others, in the order they are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Steps = list[Any]
# What the lists of steps inside a step are called: a branch's ways by number, and these.
OTHERWISE, BODY, REFUSED = "else", "steps", "refused"


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
    return [(name, pointer, steps) for name, pointer, steps in found if isinstance(steps, list)]


def walk(document: Mapping[str, Any]) -> list[Place]:
    """Return every step of a document, those inside others right behind the one around them."""
    steps = document.get("steps")
    found: list[Place] = []
    _walk(steps if isinstance(steps, list) else [], "/steps", 0, "", found)
    return found


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


def filled(document: Mapping[str, Any], connections: Mapping[str, str]) -> Steps:
    """Return a copy of a document's steps, each action with the connection of its connector."""
    return [_filled(step, connections) for step in document["steps"]]


def _filled(step: Mapping[str, Any], connections: Mapping[str, str]) -> dict[str, Any]:
    made = dict(step)
    if step["kind"] == "action" and step["connector"] in connections:
        made["connection"] = connections[step["connector"]]
    if isinstance(step.get("ways"), list):
        made["ways"] = [
            {**way, "steps": [_filled(one, connections) for one in way["steps"]]}
            for way in step["ways"]
        ]
    for name in (OTHERWISE, BODY, REFUSED):
        if isinstance(step.get(name), list):
            made[name] = [_filled(one, connections) for one in step[name]]
    return made
