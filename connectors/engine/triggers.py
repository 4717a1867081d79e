"""Triggers: what a source must know to read a connector's deliveries, and the reading itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.engine.connector import Connector, Trigger
from connectors.engine.findings import EngineError, say
from kernel import documents
from kernel.errors import Problem
from webhooks import type_rules
from webhooks.envelopes import Envelope, open_envelopes


@dataclass(frozen=True, slots=True)
class Fired:
    """One fact read from a delivery; `dedupe_key` None means nothing identifies it."""

    type: str
    version: int
    dedupe_key: str | None
    occurred_at: datetime | None
    subject: str | None
    data: Any


class Unread(EngineError):  # noqa: N818 - it says what the delivery is
    """The delivery cannot be read by this trigger."""


def source_config(connector: Connector, trigger_key: str) -> dict[str, Any]:
    """Return what a webhooks Source needs: {scheme, scheme_options, type_rules}."""
    trigger = connector.triggers[trigger_key]
    options = dict(trigger.verify.get("options", {}))
    scheme = trigger.verify["scheme"]
    named = ("standard_webhooks", "github", "recipe")
    if "header" in trigger.dedupe and scheme not in named:
        options.setdefault("id_header", trigger.dedupe["header"])
    return {"scheme": scheme, "scheme_options": options, "type_rules": rules_of(trigger)}


def rules_of(trigger: Trigger) -> dict[str, Any]:
    """Return the type rules of a trigger in the words of webhooks."""
    origin = trigger.type_from
    if "type" in trigger.verify.get("options", {}) and trigger.verify["scheme"] == "recipe":
        origin = {}  # the recipe itself names the type
    rules: dict[str, Any] = {"from": "envelope"}
    for name in ("header", "pointer", "fixed"):
        if name in origin:
            rules = {"from": name, "value": origin[name]}
    stated = {
        "prefix": origin.get("prefix"),
        "id_pointer": trigger.dedupe.get("pointer"),
        "time_pointer": trigger.occurred_at,
        "subject_pointer": trigger.subject,
        "data_pointer": trigger.data,
    }
    rules.update({name: value for name, value in stated.items() if value})
    return rules


def read(trigger: Trigger, headers: Mapping[str, str], raw: bytes) -> list[Fired]:
    """Return the facts of a verified delivery; raises Unread."""
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        opened = open_envelopes(raw, lower.get("content-type", "application/json"), lower)
    except Problem as broken:
        raise Unread(say("送来的内容无法读取", broken.plain())) from broken
    found: list[Fired] = []
    for envelope in opened.envelopes:
        type_rules.apply(rules_of(trigger), envelope, lower)
        header = trigger.dedupe.get("header", "").lower()
        found.append(fired_of(trigger, envelope, lower.get(header)))
    return found


def fired_of(trigger: Trigger, envelope: Envelope, message_id: str | None) -> Fired:
    """Return the fact of an envelope that has its type; raises Unread for one without."""
    if envelope.errors or not envelope.type:
        first = envelope.errors[0] if envelope.errors else {"pointer": "", "message": "type"}
        raise Unread(
            say(
                f"{first['pointer']}：读不出事件类型或内容",
                f"{first['pointer']}: {first['message']}",
            )
        )
    return Fired(
        type=envelope.type,
        version=int(envelope.version or trigger.version),
        dedupe_key=message_id or envelope.id,
        occurred_at=envelope.occurred_at,
        subject=envelope.subject,
        data=envelope.value,
    )


def matches(trigger: Trigger, event_type: str) -> bool:
    """Tell whether an event type is one this trigger stands for; `github.*` is a whole family."""
    if trigger.event.endswith("*"):
        return event_type.startswith(trigger.event[:-1])
    return trigger.event == event_type


def sample_delivery(connector: Connector, trigger_key: str) -> tuple[dict[str, str], bytes]:
    """Return the (headers, body) of a trigger's sample, unsigned."""
    sample = connector.triggers[trigger_key].sample
    headers = {"Content-Type": "application/json", **sample.get("headers", {})}
    return headers, documents.dump(sample.get("body", {}))
