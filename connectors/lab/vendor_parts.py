"""How a lab vendor answers actions in parts: page by page, and item by item."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from connectors.engine import fixtures, templates
from connectors.engine.connector import Action, Connector
from connectors.engine.fixtures import Fixture
from connectors.engine.nodes import Path
from connectors.lab.vendor_calls import Call
from kernel.http import Request

Marks = dict[tuple[str, ...], str]


def page_of(
    connector: Connector, action: Action, cases: Mapping[str, Fixture], call: Call
) -> Fixture | None:
    """Return the recorded page that a call asks for; one nobody recorded is like the last."""
    first = cases.get("ok")
    later = [one for one in cases.values() if "look" in one.value and _is_ok(one)]
    if action.pages is None or first is None or not later:
        return first
    asked = _marks_of_call(call)
    start = _marks(fixtures.request_of(connector, first))
    last = first
    for one in sorted(later, key=lambda found: str(found.value.get("following"))):
        marks = _marks(fixtures.request_of(connector, one))
        own = {place for place in marks.keys() | start if marks.get(place) != start.get(place)}
        if own and all(asked.get(place) == marks.get(place) for place in own):
            return one
        if own and any(asked.get(place) != start.get(place) for place in own):
            last = one
    return last


def _is_ok(fixture: Fixture) -> bool:
    return bool(fixture.value.get("answer", {"kind": "ok"}).get("kind") == "ok")


def _marks(request: Request) -> Marks:
    found: Marks = {
        ("query", name): value for name, value in parse_qsl(urlsplit(request.url).query)
    }
    shown = fixtures.shown(request)
    return {**found, **dict(_leaves(("body",), shown.get("json", shown.get("form"))))}


def _marks_of_call(call: Call) -> Marks:
    found: Marks = {("query", name): value for name, value in call.query.items()}
    return {**found, **dict(_leaves(("body",), call.body if call.raw else None))}


def _leaves(at: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _leaves((*at, str(name)), one)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _leaves((*at, str(number)), one)
    elif value is not None:
        yield at, str(value)


def results(action: Action, sample: Any, call: Call, template: Any) -> Any:
    """Return a batch's recorded answer with one result for each item that a call brings."""
    batch = action.batch
    assert batch is not None
    sent = _sent(template, call.body)
    where = templates.parse(batch.results).expressions[0].node
    if sent is None or not isinstance(where, Path) or where.steps[0] not in ("body", "data"):
        return sample
    body = copy.deepcopy(sample)
    recorded = _list_at(body, where.steps[1:])
    if not recorded:
        return sample
    model = recorded[0]
    recorded[:] = [_echo(model, one) for one in sent]
    return body


def _sent(template: Any, body: Any) -> list[Any] | None:
    """Find the items in a body, where its template goes through `look.items`."""
    if isinstance(template, Mapping):
        if "look.items" in str(template.get("each", "")):
            return body if isinstance(body, list) else None
        for name, one in template.items():
            below = body.get(name) if isinstance(body, Mapping) else None
            found = _sent(one, below)
            if found is not None:
                return found
    return None


def _list_at(body: Any, steps: Sequence[str | int]) -> list[Any] | None:
    for step in steps:
        try:
            body = body[step]
        except (LookupError, TypeError):
            return None
    return body if isinstance(body, list) else None


def _echo(model: Any, sent: Any) -> Any:
    """Return a result for what was sent: fields of the same name and kind say the same."""
    if not isinstance(model, Mapping) or not isinstance(sent, Mapping):
        return model
    return {
        name: sent[name] if name in sent and type(sent[name]) is type(value) else value
        for name, value in model.items()
    }
