"""Flow diffs: what changed between two documents of a flow, step by step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from connectors import flow_trees

MOST = 200  # changed values that are listed
_OF_THE_FLOW = (flow_trees.ON_ERROR, "output", "environments")
_NO_FIELDS = {"key", "else", "steps", "refused"}


@dataclass(frozen=True)
class Change:
    """One thing that differs: of a step, or of the trigger when `step` is None."""

    kind: str  # added | removed | moved | changed
    step: Mapping[str, Any] | None
    field: str = ""  # dotted, of a changed value
    before: Any = None
    after: Any = None


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return what was done to a document; a step is the same while its key is the same."""
    found = list(_values(None, before.get("trigger") or {}, after.get("trigger") or {}))
    found += _values(None, _whole(before), _whole(after))
    old = {place.step["key"]: place for place in flow_trees.walk(before)}
    new = {place.step["key"]: place for place in flow_trees.walk(after)}
    found += [Change("removed", old[key].step) for key in old if key not in new]
    homes_before, homes_after = _homes(before), _homes(after)
    moved = _moved(homes_before, homes_after, set(old) & set(new))
    for key, place in new.items():
        if key not in old:
            found.append(Change("added", place.step))
            continue
        if key in moved:
            found.append(Change("moved", place.step))
        found += _values(place.step, _own(old[key].step), _own(place.step))
    return found[:MOST]


def _whole(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document says of the flow as a whole, beside its trigger and its steps."""
    made = {name: document[name] for name in _OF_THE_FLOW if document.get(name) is not None}
    if isinstance(made.get(flow_trees.ON_ERROR), Mapping):
        made[flow_trees.ON_ERROR] = _without_steps(made[flow_trees.ON_ERROR])
    return made


def _without_steps(path: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in path.items() if name != "steps"}


def _own(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step without the steps inside it; a branch's ways are told apart by their keys."""
    made = {name: value for name, value in step.items() if name not in _NO_FIELDS}
    if isinstance(made.get("ways"), list):
        made["ways"] = {
            way["key"]: {name: one for name, one in way.items() if name not in ("key", "steps")}
            for way in made["ways"]
        }
    if isinstance(made.get(flow_trees.ON_ERROR), Mapping):
        made[flow_trees.ON_ERROR] = _without_steps(made[flow_trees.ON_ERROR])
    return made


def _homes(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the keys of the steps in each list, by the step and the way that the list is of."""
    places = flow_trees.walk(document)
    found: dict[str, list[str]] = {}
    for place in places:
        number, _, name = place.inside.partition("/")
        around = places[int(number)].step if number.isdigit() else {}
        if name.isdigit():
            name = f"way {around['ways'][int(name)]['key']}"
        found.setdefault(f"{around.get('key', '')}/{name}", []).append(place.step["key"])
    return found


def _moved(
    before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]], common: set[str]
) -> set[str]:
    """Return the steps that stand in another list, or before others that they stood behind."""
    moved: set[str] = set()
    for home, keys in after.items():
        mine = [key for key in keys if key in common]
        theirs = [key for key in before.get(home, ()) if key in common]
        stayed = set()
        for block in SequenceMatcher(None, theirs, mine, autojunk=False).get_matching_blocks():
            stayed.update(mine[block.b : block.b + block.size])
        moved.update(key for key in mine if key not in stayed)
    return moved


def _values(
    step: Mapping[str, Any] | None, before: Any, after: Any, path: str = ""
) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(one for one in after if one not in before)]:
            here = f"{path}.{name}" if path else str(name)
            yield from _values(step, before.get(name), after.get(name), here)
    elif before != after:
        yield Change("changed", step, path, before, after)
