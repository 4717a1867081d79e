"""Editing a flow document step by step: add, move, remove, and read what a form sent."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from connectors import edge_forms, flow_forms, flow_trees, order_keys
from connectors.flow_shapes import KINDS, MAX_WAYS
from connectors.mapping_rows import Row

Document = dict[str, Any]


_NEW_PARTS: dict[str, dict[str, Any]] = {
    "filter": {"when": ""},
    "map": {"mapping": {}},
    "action": {"connector": "", "action": "", "input": {}},
    "branch": {"ways": [{"key": "way1", "when": "", "steps": []}], "else": []},
    "each": {"over": "", "steps": []},
    "delay": {"for": "1h"},
    "approval": {
        "who": {"roles": ["owner", "admin"]},
        "subject": "",
        "deadline": "3d",
        "at_deadline": "refuse",
    },
    **edge_forms.NEW_PARTS,
}
_WORDS = {
    "filter": "check",
    "map": "shape",
    "action": "do",
    "branch": "ways",
    "each": "loop",
    "delay": "wait",
    "approval": "ask",
    **edge_forms.WORDS,
}


def add_step(document: Document, kind: str, position: int | None = None, inside: str = "") -> int:
    """Put a new step in and return its number; `inside` names the list (flow_trees.Place)."""
    if kind not in KINDS:
        kind = "action"
    step: dict[str, Any] = {"key": _free_key(document, kind), "kind": kind}
    step.update(copy.deepcopy(_NEW_PARTS[kind]))
    steps = _list_at(document, inside)
    steps.insert(len(steps) if position is None else max(0, position), step)
    return _number_of(document, step)


def _list_at(document: Document, inside: str) -> list[Any]:
    """Return the list of steps that a Place's `inside` names; the flow's own for what is none."""
    number, _, name = inside.partition("/")
    if inside == flow_trees.OF_THE_FLOW:
        path = document.setdefault(flow_trees.ON_ERROR, {"steps": [], "then": "end"})
        caught: list[Any] = path.setdefault("steps", [])
        return caught
    for place in flow_trees.walk(document):
        if str(place.number) == number:
            for known, _, steps in flow_trees.lists_in(place.step):
                if known == name:
                    return steps
            # a way that nobody has needed yet is not in the document
            is_approval = place.step["kind"] == "approval" and name == flow_trees.REFUSED
            is_branch = place.step["kind"] == "branch" and name == flow_trees.OTHERWISE
            if is_approval or is_branch:
                found: list[Any] = place.step.setdefault(name, [])
                return found
    own: list[Any] = document["steps"]
    return own


def _number_of(document: Document, step: Any) -> int:
    return next(one.number for one in flow_trees.walk(document) if one.step is step)


def move_step(document: Document, number: int, by: int) -> int:
    """Move a step up or down among those beside it and return its number now."""
    places = flow_trees.walk(document)
    if not 0 <= number < len(places):
        return number
    place = places[number]
    target = place.index + by
    if 0 <= target < len(place.siblings):
        place.siblings.insert(target, place.siblings.pop(place.index))
    return _number_of(document, place.step)


def remove_step(document: Document, number: int) -> None:
    """Take a step out, with all inside it."""
    places = flow_trees.walk(document)
    if 0 <= number < len(places):
        del places[number].siblings[places[number].index]


def add_way(document: Document, number: int) -> None:
    """Give a branch one more way."""
    places = flow_trees.walk(document)
    if not 0 <= number < len(places) or places[number].step["kind"] != "branch":
        return
    ways = places[number].step["ways"]
    taken = {way["key"] for way in ways}
    free = next(f"way{n}" for n in range(1, MAX_WAYS + 2) if f"way{n}" not in taken)
    if len(ways) < MAX_WAYS:
        ways.append({"key": free, "when": "", "steps": []})


def remove_way(document: Document, number: int, way: int) -> None:
    """Take a way out of a branch, with its steps."""
    places = flow_trees.walk(document)
    if 0 <= number < len(places) and places[number].step["kind"] == "branch":
        del places[number].step["ways"][way : way + 1]


def _free_key(document: Document, kind: str) -> str:
    taken = {place.step.get("key") for place in flow_trees.walk(document)}
    number = 1
    while f"{_WORDS[kind]}{number}" in taken:
        number += 1
    return f"{_WORDS[kind]}{number}"


def keep_inside(step: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Put the lists of steps that stand inside a step back into what a form said of it."""
    for _, pointer, steps in flow_trees.lists_in(before):
        *way, last = pointer.strip("/").split("/")
        home: Any = step
        for name in way:
            if isinstance(home, list):
                home = home[int(name)] if int(name) < len(home) else None
            else:
                # an error path that was given up in the form takes its steps along
                home = home.get(name) if isinstance(home, dict) else None
        if isinstance(home, dict):
            home[last] = steps


# --- order -------------------------------------------------------------------------------------


def order_parts(trigger: Mapping[str, Any]) -> tuple[str, str]:
    """Return which order a trigger asks for, none, flow, subject or value, and the value's text."""
    written = order_keys.of_trigger(trigger) or order_keys.NONE
    return (written, "") if written in order_keys.WORDS else ("value", written)


def order_key_of(choice: str, value: str) -> str | None:
    """Return the order key that two fields of a form mean; None for no order."""
    if choice in (order_keys.FLOW, order_keys.SUBJECT):
        return choice
    if choice != "value":
        return None
    text = value.strip()
    return text if "${" in text else f"${{{text}}}"


# --- forms ---------------------------------------------------------------------------------------


def read_form(form: Mapping[str, str], connections: Mapping[str, str]) -> Document:
    """Build the document that an editor's form describes; raises Unfit for rows that clash.

    `connections` gives the connector of each connection.
    """
    document: Document = {"trigger": {}, "steps": []}
    put_whole(document, form)
    caught: list[Any] = document.get(flow_trees.ON_ERROR, {}).get("steps", [])
    document["steps"] = flow_forms.read_steps(form, connections, caught)
    return document


def put_whole(document: Document, form: Mapping[str, str]) -> None:
    """Put what a form says of the flow as a whole into a document; its steps stay."""
    called, output = edge_forms.read_called(form)
    document["trigger"] = called or read_trigger(form)
    document.pop("output", None)
    if output is not None:
        document["output"] = output
    steps = flow_trees.caught_by_flow(document)
    document.pop(flow_trees.ON_ERROR, None)
    document |= edge_forms.read_document(form)
    if flow_trees.ON_ERROR in document:
        document[flow_trees.ON_ERROR]["steps"] = steps


def read_trigger(form: Mapping[str, str]) -> dict[str, Any]:
    """Read what starts the flow, and in which order its runs go."""
    trigger: dict[str, Any] = {"event": form.get("event", "").strip(), "version": None}
    version = form.get("version", "").strip()
    if flow_forms.number_in(version):
        trigger["version"] = flow_forms.number_in(version)
    source = form.get("starts", "").split("|")
    if len(source) == 3:
        trigger |= {"connection": source[0], "connector": source[1], "trigger": source[2]}
    order_key = order_key_of(form.get("order", ""), form.get("order_value", ""))
    if order_key:
        trigger["order_key"] = order_key
    return trigger


def rows_for(rows: Sequence[Row], wanted: Sequence[Any]) -> list[Row]:
    """Return an action's rows in the order of its fields, with an empty row for each unset one."""
    known = {one.path: one for one in wanted}
    shown = []
    for one in wanted:
        row = next((row for row in rows if row.target == one.path), None)
        # a field inside a list or object that is set as a whole needs no row of its own
        covered = any(one.path.startswith(f"{row.target}.") for row in rows if row.target)
        if row is None and covered:
            continue
        how = row.how if row else ("text" if one.is_required else "optional")
        known_as = {"title": one.title, "kind": one.kind, "is_required": one.is_required}
        known_as["format"] = str(one.schema.get("format") or "")
        shown.append(replace(row or Row(one.path, how, ""), **known_as))
    return shown + [row for row in rows if row.target not in known]
