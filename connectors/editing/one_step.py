"""One step at a time: a form about a single step, or about the trigger, put into its document."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from connectors import flow_editing, flow_forms, flow_trees
from connectors.editing.matching import Proposal
from connectors.mapping_rows import Row, document_of, rows_of

Document = dict[str, Any]
TRIGGER = "trigger"


def put(
    document: Document, about: str, form: Mapping[str, str], connections: Mapping[str, str]
) -> Document:
    """Return a copy of a document with the part a form is about as the form says.

    `about` is `trigger` or the number of a step; a form about neither changes nothing. Raises
    Unfit for rows that clash.
    """
    made = copy.deepcopy(document)
    if about == TRIGGER:
        flow_editing.put_whole(made, form)
        return made
    places = flow_trees.walk(made)
    number = flow_forms.number_in(about)
    if not about.isdigit() or number >= len(places) or f"s{number}.kind" not in form:
        return made
    place = places[number]
    step = flow_forms.read_step(form, number, connections)
    flow_editing.keep_inside(step, place.step)
    place.siblings[place.index] = step
    return made


def take_over(document: Document, number: int, proposals: Iterable[Proposal]) -> None:
    """Fill fields of an action with what was proposed; what is filled already stays as it is."""
    places = flow_trees.walk(document)
    if not 0 <= number < len(places) or places[number].step["kind"] != "action":
        return
    step = places[number].step
    rows = rows_of(step.get("input"))
    filled = filled_in(rows)
    rows += [
        Row(one.target, one.how, one.source)
        for one in proposals
        if not any(_touch(one.target, other) for other in filled)
    ]
    step["input"] = document_of(rows, f"{places[number].pointer}/input")


def filled_in(rows: list[Row]) -> list[str]:
    """Return the fields that have something in them; "" when one row says everything."""
    return [one.target for one in rows if one.source.strip()]


def _touch(one: str, other: str) -> bool:
    return not other or one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
