"""How a lab vendor answers whoever looks for missing events: lists of what it sent, and again.

The manifest says how to read an item of the list. Here it is read backwards: from an event that was
sent to the item that would be read as that event.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.engine import fixtures, reconcile, templates
from connectors.engine.connector import Connector, Reconcile, Trigger
from connectors.engine.findings import EngineError
from connectors.engine.nodes import Path
from connectors.lab.vendor_calls import Answer, Call, refusal
from connectors.lab.vendor_ledger import Ledger
from kernel import documents
from webhooks.envelopes import moment

PAGE_SIZE = 50
_LIMITS = ("limit", "per_page", "page_size", "pageSize", "size")


@dataclass(frozen=True, slots=True)
class Look:
    """One call of a look for missing events: of which trigger, and which of its calls."""

    trigger: Trigger
    step: str  # list | redeliver

    @property
    def plan(self) -> Reconcile:
        """Return what the manifest says of it."""
        assert self.trigger.reconcile is not None
        return self.trigger.reconcile

    @property
    def request(self) -> Any:
        """Return the request template that asks for it."""
        return self.plan.request if self.step == "list" else self.plan.redeliver


def looks_of(connector: Connector) -> dict[str, Look]:
    """Return every call there is, each way of looking once."""
    found: dict[str, Look] = {}
    seen: list[Reconcile] = []
    for key, trigger in connector.triggers.items():
        if trigger.reconcile is None or trigger.reconcile in seen:
            continue
        seen.append(trigger.reconcile)
        found[f"{key}.list"] = Look(trigger, "list")
        if trigger.reconcile.redeliver is not None:
            found[f"{key}.redeliver"] = Look(trigger, "redeliver")
    return found


def answer(
    connector: Connector, ledger: Ledger, look: Look, call: Call, installation: str | None
) -> Answer:
    """Answer one call."""
    if look.step == "redeliver":
        wanted = [int(one) for one in call.places.values() if one.isdecimal()]
        if not wanted or not ledger.send_again(wanted[-1]):
            raise refusal(404, "NO_DELIVERY", "There is no such delivery")
        return Answer(202, {}, {})
    since, page, size = _asked(look.plan, call)
    is_newest_first = look.plan.kind == "deliveries"
    rows = ledger.sent(installation, since, page, size + 1, is_newest_first=is_newest_first)
    following = str(rows[size - 1]["id"]) if len(rows) > size else None
    samples = _samples(connector, look)
    items = [_item(connector, look, row, samples) for row in rows[:size]]
    return _page(look, call, items, following)


def _asked(plan: Reconcile, call: Call) -> tuple[float, int | None, int]:
    """Return since when, after which row and how many items the caller wants."""
    since, page, size = 0.0, None, PAGE_SIZE
    for name, stated in ((plan.request.query or {}).get("object") or {}).items():
        text = stated.get("optional", "") if isinstance(stated, Mapping) else str(stated)
        given = call.query.get(name, "")
        if "look.since" in text and given:
            at = moment(given)
            if at is None:
                raise refusal(422, "INVALID", f"{name} is not a time")
            since = at.timestamp()
        elif "look.page" in text and given.isdecimal():
            page = int(given)
        elif name in _LIMITS and given.isdecimal():
            size = max(1, min(int(given), 100))
    return since, page, size


def _samples(connector: Connector, look: Look) -> list[Any]:
    """Return the items of the recorded answer."""
    for fixture in fixtures.load(connector.folder)[0]:
        if fixture.kind == "reconcile" and fixtures.step_of(fixture) == "list":
            body = fixture.value.get("response", {}).get("json")
            found = _at(body, place(look.plan.page["object"]["items"]))
            if isinstance(found, list) and found:
                return found
    return [{}]


def _item(connector: Connector, look: Look, row: Any, samples: list[Any]) -> Any:
    trigger = connector.triggers[row["trigger"]]
    stated = look.plan.item["object"]
    if look.plan.kind == "deliveries":
        is_failed = row["state"] != "taken"
        item = copy.deepcopy(_alike(look.plan, samples, is_failed=is_failed))
        at = datetime.fromtimestamp(row["at"], UTC)
        facts = {"id": row["id"], "message_id": row["event"], "type": trigger.event}
        _fill(item, stated, {**facts, "at": reconcile.written(at)})
        return item
    item = copy.deepcopy(samples[0])
    headers = {**trigger.sample.get("headers", {}), **own_id(trigger, row["event"])}
    _fill(item, stated, {"headers": headers, "body": documents.parse(row["body"].encode())})
    return item


def own_id(trigger: Trigger, event_id: str) -> dict[str, str]:
    """Return the header that tells one message from another, with an event's own id in it."""
    header = trigger.dedupe.get("header")
    return {header: event_id} if header else {}


def _alike(plan: Reconcile, samples: list[Any], *, is_failed: bool) -> Any:
    """Return a recorded delivery that went as well, or as badly."""
    for one in samples:
        try:
            if reconcile.delivery(plan, one).is_failed is is_failed:
                return one
        except EngineError:
            continue
    return samples[0]


def _fill(item: Any, stated: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """Put into an item what its mapping reads there, as far as that is a plain place."""
    known = {name.lower(): one for name, one in value.items()}
    for name, part in stated.items():
        found = known.get(name.lower())
        if isinstance(part, Mapping) and set(part) == {"optional"}:
            part = part["optional"]  # noqa: PLW2901 - the same leaf, without its operator
        if isinstance(part, Mapping) and isinstance(found, Mapping):
            _fill(item, part, found)
        elif isinstance(part, str) and found is not None:
            before, steps = _leaf(part)
            if steps and str(found).startswith(before):
                put(item, steps, found if not before else str(found)[len(before) :])


def _leaf(text: str) -> tuple[str, tuple[str | int, ...]]:
    """Return the plain text before a leaf's place, and the place in the item."""
    pieces = list(templates.parse(text).pieces)
    before = pieces.pop(0) if len(pieces) == 2 and isinstance(pieces[0], str) else ""
    node = pieces[0].node if len(pieces) == 1 and not isinstance(pieces[0], str) else None
    return str(before), node.steps[1:] if isinstance(node, Path) else ()


def put(item: Any, steps: tuple[str | int, ...], value: Any) -> None:
    """Put a value at a place, making what leads there."""
    for step in steps[:-1]:
        item = item.setdefault(step, {}) if isinstance(item, dict) else item[int(step)]
    item[steps[-1]] = value


def place(text: str) -> tuple[str | int, ...]:
    """Return the place a text reads, () when it is more than a plain place."""
    return _leaf(text)[1]


def _at(value: Any, steps: tuple[str | int, ...]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _page(look: Look, call: Call, items: list[Any], following: str | None) -> Answer:
    """Wrap items the way the manifest unwraps them, and say how to get on."""
    plan, headers = look.plan, {}
    stated = plan.page["object"]
    steps = place(stated["items"])
    body: Any = {} if steps else items
    if steps:
        put(body, steps, items)
    if plan.link is not None:
        if following is not None:
            headers["Link"] = f'<http://lab.invalid{call.path}?{plan.link}={following}>; rel="next"'
    elif "next" in stated and isinstance(body, dict):
        put(body, place(stated["next"]["optional"]), following)
    return Answer(200, body, headers)
