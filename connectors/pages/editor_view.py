"""What both editors show of a flow: its steps as forms, the sample in them, mistakes, proposals."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flask import request
from flask_babel import gettext
from sqlmodel import Session

from catalog import event_types
from connectors import (
    connections,
    durations,
    edge_forms,
    field_paths,
    flow_editing,
    flow_forms,
    flow_trees,
    flows,
    mapping_rows,
)
from connectors.editing import fitting, matching, one_step, picking, trials
from connectors.editing.trials import Trial, Values
from connectors.engine import loader
from connectors.errors import Unfit
from connectors.field_paths import Offer
from connectors.pages.pictures import title_of
from connectors.pages.timeline import way_title
from connectors.resting import callables
from connectors.stores import values
from connectors.tables import Connection, Flow
from identity import members
from identity.guard import principal
from identity.roles import ROLE_TITLES, ROLES
from kernel.errors import Problem
from kernel.web import localized

_DURATIONS = ("for", "deadline", "remind", "expires")
# part of a step → the field of its form, where the two are called otherwise
_FIELDS = {"when": "left", "action": "does", "connector": "connection"}
_FIELDS |= {name: name for name in (
    "key", "title", "connection", "over", "item_key", "on_item_error", "for", "until",
    "subject", "text", "deadline", "at_deadline", "remind", "flow", "event_type", "operation",
    "collection", "entry", "value", "amount", "expires", "since",
)}  # fmt: skip
_ALWAYS = {("any", ""), ("array", ""), ("string", "")}  # what conditions, loops and texts take
_ROW_BODIES = ("input", "mapping")
_POINTER = re.compile(r"^/\S*?(：|: ?)")


class View:
    """One draft, tried on one sample; read from the store once for a page."""

    def __init__(self, session: Session, flow: Flow, document: dict[str, Any]) -> None:
        """Check the draft, choose the sample the request names, and try it."""
        self.session, self.flow, self.document = session, flow, document
        owner = flow.organization_id
        self.schema = flows.event_schema(session, owner, document)
        self.mine = connections.all_of(session, owner)
        self.chosen = request.values.get("sample", "")
        self.pasted = request.values.get("pasted", "")
        self.sample_problem: str = ""
        self.trial = self._try()
        self.values = Values(self.trial, document)
        self.findings = [
            _told(document, one) for one in flows.check(session, owner, document, flow.id)
        ]
        self._caught: list[dict[str, Any]] = []

    def _try(self) -> Trial:
        owner, sees = self.flow.organization_id, principal().may("events:read")
        key = self.flow.template_key
        try:
            event = trials.event_of(
                self.session, owner, self.document, self.chosen,
                pasted=self.pasted, template_key=key, sees_events=sees,
            )  # fmt: skip
        except Unfit as bad:
            self.sample_problem = localized(bad.findings[0]["say"])
            event = trials.event_of(
                self.session, owner, self.document, "", template_key=key, sees_events=sees
            )
        return trials.try_on(self.session, owner, self.document, event)

    def samples(self) -> list[tuple[str, str]]:
        """Return the samples to choose from, with what they are called."""
        found = trials.choices(
            self.session, self.flow.organization_id, self.document,
            sees_events=principal().may("events:read"),
        )  # fmt: skip
        words = {
            "event": gettext("Real event"),
            "template": gettext("Ready-made flow"),
            "sample": gettext("The usual sample"),
            "pasted": gettext("My own sample"),
        }
        return [
            (one.value, words[one.kind] + (f" · {_named(one)}" if one.title else ""))
            for one in found
        ]

    def offers(self, number: int) -> list[Offer]:
        """Return what a step may read."""
        return field_paths.offers(self.document, number, self.schema)

    def proposals(self, number: int, step: Mapping[str, Any]) -> list[matching.Proposal]:
        """Return what may fill the fields of an action that are still empty."""
        if step["kind"] != "action":
            return []
        fields = field_paths.wanted(step.get("connector"), step.get("action"))
        filled = one_step.filled_in(mapping_rows.rows_of(step.get("input")))
        if not fields or "" in filled:
            return []
        offers = self.offers(number)
        return matching.propose(fields, offers, filled, picking.absent(offers, self.values))

    def steps(self, only: int | None = None) -> list[dict[str, Any]]:
        """Return the flow's own steps as forms show them, each with the lists inside it.

        `only` names the one step whose fields are needed; the others are then but named.
        """
        shown: list[dict[str, Any]] = []
        top: list[dict[str, Any]] = []
        self._caught = []
        for place in flow_trees.walk(self.document):
            is_needed = only is None or only == place.number
            step = self._step(place) if is_needed else _named_step(place)
            shown.append(step)
            if place.inside in ("", flow_trees.OF_THE_FLOW):
                (self._caught if place.inside else top).append(step)
                continue
            around, _, name = place.inside.partition("/")
            inner = next(one for one in shown[int(around)]["lists"] if one["name"] == name)
            inner["steps"].append(step)
        return top if only is None else shown

    def caught(self) -> list[dict[str, Any]]:
        """Return the steps of the flow's own error path, as they were last asked for."""
        return self._caught

    def _step(self, place: flow_trees.Place) -> dict[str, Any]:
        step, number = place.step, place.number
        body = step.get("mapping" if step["kind"] == "map" else "input")
        rows = mapping_rows.rows_of(body) if step["kind"] in ("map", "action", "call") else []
        if step["kind"] == "action":
            fields = field_paths.wanted(step.get("connector"), step.get("action"))
            rows = flow_editing.rows_for(rows, fields)
        if not (rows and rows[0].target == ""):
            rows = [*rows, mapping_rows.Row("", "text", "")]
        offers = self.offers(number)
        mistakes = [one for one in self.findings if one["step"] == number]
        outcome = self.trial.steps.get(number)
        if outcome is not None and outcome.state == "failed" and outcome.say:
            mistakes += _told_by_sample(outcome, number)
        _place_mistakes(mistakes, place, rows)
        # what the sample has to say about the whole step stands beside the sample
        mistakes = [one for one in mistakes if one["row"] is not None or not one["of_sample"]]
        return {
            **step,
            **_named_step(place),
            "rows": rows,
            "parts": flow_forms.condition_parts(step.get("when")),
            "value_text": edge_forms.value_text(step.get("value", "")),
            "durations": {name: durations.parts(step.get(name)) for name in _DURATIONS},
            "offers": offers,
            "picks": [picking.key_of(one) for one in offers],
            "outcome": outcome,
            "proposals": self.proposals(number, step),
            "mistakes": mistakes,
        }

    def picker(self, steps: Iterable[Mapping[str, Any]], more: Iterable[Offer] = ()) -> Any:
        """Return what the fields' lists are made of: the offers, each once, and what fits what."""
        steps = list(steps)
        origins = {
            place.step["key"]: title_of(place.step) for place in flow_trees.walk(self.document)
        }
        origins["event"] = gettext("Event")
        offers = [offer for one in steps for offer in one["offers"]] + list(more)
        pool = picking.pool(offers, self.values, origins)
        wanted = {(row.kind or "any", row.format) for one in steps for row in one["rows"]}
        return {
            "pool": pool,
            "fits": picking.verdicts(pool.values(), wanted | _ALWAYS),
            "each": {
                f"{one['number']}|{found.target}|{found.origin.expression}": found.source
                for one in steps
                for found in one["proposals"]
                if found.inner
            },
        }

    def common(self, problem: Problem | None = None) -> dict[str, Any]:
        """Return what every form of a page needs to be drawn."""
        owner = self.flow.organization_id
        offers = self.offers(0)
        return {
            "problem": problem,
            "flow": self.flow,
            "document": self.document,
            "count": len(flow_trees.walk(self.document)),
            "seats": [(one.id, one.name) for one in members.list_seats(self.session, owner)],
            "roles": [(role, gettext(ROLE_TITLES[role])) for role in ROLES],
            "units": [
                ("m", gettext("minutes")),
                ("h", gettext("hours")),
                ("d", gettext("days")),
                ("s", gettext("seconds")),
            ],
            "connections": [(one.id, one.name) for one in self.mine],
            "actions": _actions(self.mine),
            "events": event_types.all_types(self.session, owner),
            "triggers": _triggers(self.mine),
            "operators": flow_forms.OPERATORS,
            "order": flow_editing.order_parts(self.document["trigger"]),
            "trigger_offers": offers,
            "problems": self.findings,
            "samples": self.samples(),
            "sample": self.chosen,
            "pasted": self.pasted,
            "sample_problem": self.sample_problem,
            "trial": self.trial,
            "kind_words": fitting.kind_words,
            "shown_value": self._shown_value,
            "plain": plain,
            "callables": [(one.flow_id, one.name) for one in callables.all_of(self.session, owner)],
            "collections": [one.collection for one in values.collections(self.session, owner)],
            "called_texts": _called_texts(self.document),
        }

    def _shown_value(self, offer: Offer) -> str:
        there, value = self.values.at(offer)
        return picking.shown(value) if there else ""


def _called_texts(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what a called flow is handed and gives back, as its fields show them."""
    written = (document.get("trigger") or {}).get("input"), document.get("output")
    shown = [mapping_rows.to_yaml(one).strip() if one is not None else "" for one in written]
    return dict(zip(("input", "output"), shown, strict=True))


def _named(one: trials.Choice) -> str:
    return str(one.title) if isinstance(one.title, str) else localized(one.title)


def _told(document: dict[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mistake in words, with the step it is about and where a form shows it."""
    pointer = one["pointer"]
    number = flow_trees.number_at(document, pointer)
    places = flow_trees.walk(document)
    below = pointer.removeprefix(places[number].pointer) if number is not None else ""
    return {
        "step": number,
        "label": title_of(places[number].step) if number is not None else "",
        "message": localized(one["say"]),
        "pointer": pointer,
        "below": below,
        "field": _field(number, pointer, below),
        "row": None,
        "of_sample": False,
    }


def _told_by_sample(outcome: trials.Outcome, number: int) -> list[dict[str, Any]]:
    """Return what the sample says about a field, as a mistake of that field."""
    if not outcome.detail.startswith("/"):
        return []
    return [
        {
            "step": number,
            "label": "",
            "message": gettext("With the sample: %(why)s", why=plain(outcome.say)),
            "pointer": outcome.detail,
            "below": outcome.detail,
            "field": "",
            "row": None,
            "of_sample": True,
        }
    ]


def plain(sentence: Any) -> str:
    """Return a sentence without the pointer in front of it, which the field says already."""
    return _POINTER.sub("", localized(sentence))


def _field(number: int | None, pointer: str, below: str) -> str:
    """Return the name of the form's field that a mistake is about; "" when it is about no field."""
    if number is None:
        return {"/trigger/event": "event", "/trigger/order_key": "order_value"}.get(pointer, "")
    parts = below.strip("/").split("/")
    if parts[0] == "ways" and len(parts) > 2 and parts[2] in ("key", "title", "when"):
        return f"s{number}.w{parts[1]}." + ("left" if parts[2] == "when" else parts[2])
    return f"s{number}.{_FIELDS[parts[0]]}" if parts[0] in _FIELDS else ""


def _place_mistakes(
    mistakes: list[dict[str, Any]], place: flow_trees.Place, rows: list[mapping_rows.Row]
) -> None:
    """Find the row that a mistake in a mapping is about."""
    for one in mistakes:
        body, _, path = one["below"].strip("/").partition("/")
        if body not in _ROW_BODIES:
            continue
        target = path.replace("/", ".")
        found = next(
            (
                index
                for index, row in enumerate(rows)
                if row.target
                and (
                    row.target == target
                    or target.startswith(f"{row.target}.")
                    or (target and row.target.startswith(f"{target}."))
                )
            ),
            None,
        )
        one["row"] = found
        one["field"] = f"s{place.number}.r{found}.source" if found is not None else ""


def _named_step(place: flow_trees.Place) -> dict[str, Any]:
    step = place.step
    return {
        "key": step["key"],
        "kind": step["kind"],
        "number": place.number,
        "inside": place.inside,
        "index": place.index,
        "is_first": place.index == 0,
        "is_last": place.index == len(place.siblings) - 1,
        "label": title_of(step),
        "title": localized(step["title"]) if step.get("title") else "",
        "lists": _lists(step, place.number),
    }


def _lists(step: dict[str, Any], number: int) -> list[dict[str, Any]]:
    names = [name for name, _, _ in flow_trees.lists_in(step)]
    if step["kind"] == "approval" and flow_trees.REFUSED not in names:
        names.append(flow_trees.REFUSED)
    if step["kind"] == "branch" and flow_trees.OTHERWISE not in names:
        names.append(flow_trees.OTHERWISE)
    ways = step.get("ways") or []
    found: list[dict[str, Any]] = []
    for name in names:
        way = ways[int(name)] if name.isdigit() else None
        found.append(
            {
                "name": name,
                "inside": f"{number}/{name}",
                "title": list_title(step, name),
                "way": way,
                "parts": flow_forms.condition_parts(way.get("when")) if way else None,
                "steps": [],
            }
        )
    return found


def list_title(step: Mapping[str, Any], name: str) -> str:
    """Return what a list of steps inside a step is called; "" for the one that goes round."""
    if name == flow_trees.BODY:
        return ""
    ways = step.get("ways") or []
    is_way = name.isdigit() and int(name) < len(ways)
    return way_title(step, ways[int(name)]["key"] if is_way else name)


def _actions(mine: list[Connection]) -> list[tuple[str, str]]:
    """List what the organization's connections can do, as choices."""
    known = [loader.known(key) for key in dict.fromkeys(one.connector_key for one in mine)]
    return [
        (f"{one.key}|{action.key}", f"{localized(one.title)} · {localized(action.title)}")
        for one in known
        if one is not None
        for action in one.actions.values()
    ]


def _triggers(mine: list[Connection]) -> list[tuple[str, str]]:
    """List what the organization's connections can start a flow with, as choices."""
    found = []
    for one in mine:
        connector = loader.known(one.connector_key)
        for trigger in connector.triggers.values() if connector else ():
            value = f"{one.id}|{one.connector_key}|{trigger.key}"
            found.append((value, f"{one.name} · {localized(trigger.title)}"))
    return found
