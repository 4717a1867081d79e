"""Subscribing: how an app's manifest says that webhooks are ordered, listed, renewed and ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.engine import answers, mapping, requests, schemas
from connectors.engine.answers import Answer, Shape
from connectors.engine.connector import (
    ConnectionValues,
    Connector,
    Envelope,
    ErrorRule,
    RequestTemplate,
    Subscribe,
    Trigger,
)
from connectors.engine.functions import to_text
from kernel.http import Failure, Request, Response

_GONE = (404, 410)
_LISTED = {
    "type": "object",
    "required": ["items"],
    "properties": {"items": {"type": "array", "maxItems": 1000}},
}
_MADE = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": ["string", "integer"], "maxLength": 300},
        "secret": {"type": ["string", "null"], "maxLength": 500},
    },
}

# How the loader reads a request, a schema, an envelope and error rules of a part of the manifest.
Readers = tuple[
    Callable[[dict[str, Any]], RequestTemplate],
    Callable[[dict[str, Any], str], Mapping[str, Any]],
    Callable[[dict[str, Any]], Envelope],
    Callable[[dict[str, Any]], tuple[ErrorRule, ...]],
]


@dataclass(frozen=True, slots=True)
class Listed:
    """One webhook as the app lists it."""

    id: str
    url: str


def read(key: str, stated: Mapping[str, Any] | None, readers: Readers) -> Subscribe | None:
    """Return how a trigger's webhooks are ordered, as the manifest states it."""
    if stated is None:
        return None
    request, schema, envelope, errors = readers
    given = stated.get("input", {"type": "object", "properties": {}})
    listed = stated.get("list")
    page: dict[str, Any] | None = None
    link = None
    if listed is not None:
        following = listed.get("next", {})
        link = following.get("link")
        of_next = "${header.link}" if link else following.get("value")
        page = {"items": listed["items"]}
        if of_next:
            page["next"] = {"optional": of_next}
    part = dict(stated)
    return Subscribe(
        input=schema(given, f"/triggers/{key}/subscribe/input"),
        create=request(stated["create"]["request"]),
        save={"object": dict(stated["create"]["save"])},
        delete=request(stated["delete"]["request"]),
        gone=tuple(stated["delete"].get("gone", _GONE)),
        list=request(listed["request"]) if listed else None,
        page={"object": page} if page else None,
        link=link,
        match={"object": dict(stated["match"])} if "match" in stated else None,
        renew=request(stated["renew"]["request"]) if "renew" in stated else None,
        lasts_hours=stated.get("lasts_hours"),
        topic=stated.get("topic"),
        sample=stated.get("sample", {}),
        errors=errors(part),
        envelope=envelope(part),
    )


def hook_of(
    trigger: Trigger, *, url: str = "", secret: str = "", hook_id: str = "", page: str | None = None
) -> dict[str, Any]:
    """Return what requests may read of a webhook: where to, signed with what, for which topic."""
    plan = trigger.subscribe
    prefix = str(trigger.type_from.get("prefix", ""))
    topic = (plan.topic if plan else None) or trigger.event.removeprefix(prefix)
    return {"url": url, "secret": secret, "id": hook_id, "topic": topic, "page": page}


def build(
    connector: Connector,
    template: RequestTemplate,
    connection: ConnectionValues,
    given: Any,
    hook: Mapping[str, Any],
) -> Request:
    """Return the request of one step; raises CannotBuild."""
    return requests.build_hook(connector, template, connection, given, hook)


def read_created(connector: Connector, plan: Subscribe, outcome: Response | Failure) -> Answer:
    """Return what the answer to an order means; its output is {id, secret?}."""
    return _read(connector, plan, plan.save, _MADE, outcome, is_repeatable=False)


def read_deleted(connector: Connector, plan: Subscribe, outcome: Response | Failure) -> Answer:
    """Return what the answer to an end means; one that is not there any more is ended."""
    return _read(connector, plan, None, True, outcome, gone=plan.gone)


def read_renewed(connector: Connector, plan: Subscribe, outcome: Response | Failure) -> Answer:
    """Return what the answer to a renewal means."""
    return _read(connector, plan, None, True, outcome)


def read_page(connector: Connector, plan: Subscribe, outcome: Response | Failure) -> Answer:
    """Return what the answer for a page of the list means; its output is {items, next}."""
    return _read(connector, plan, plan.page, _LISTED, outcome)


def _read(
    connector: Connector,
    plan: Subscribe,
    result: Any,
    output: schemas.Schema,
    outcome: Response | Failure,
    *,
    gone: tuple[int, ...] = (),
    is_repeatable: bool = True,
) -> Answer:
    shape = Shape(
        plan.envelope,
        plan.errors,
        result,
        output,
        is_read=True,
        is_idempotent=is_repeatable,
        gone=gone,
    )
    return answers.read_shape(connector, shape, outcome, 1)


def listed(plan: Subscribe, item: Any) -> Listed | None:
    """Read one webhook of the app's list; None for one without an address or a name."""
    assert plan.match is not None
    try:
        value = mapping.prepare_once(plan.match).apply({"item": item})
        return Listed(to_text(value["id"]), to_text(value["url"]))
    except (mapping.MappingError, KeyError, ValueError):
        return None
