"""How a lab vendor keeps the webhooks that are ordered from it: makes, lists and ends them.

The manifest says what an order sends and how a listed webhook is read; here both are read
backwards.
"""

import copy
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.engine import subscribing
from connectors.engine.connector import Connector, Subscribe, Trigger
from connectors.lab.vendor_calls import Answer, Call, refusal
from connectors.lab.vendor_ledger import Ledger
from connectors.lab.vendor_looks import place, put

BY_ORDER = "by-order"


@dataclass(frozen=True, slots=True)
class HookCall:
    """One call about webhooks: of which trigger, and which of its calls."""

    trigger: Trigger
    step: str  # create | list | delete | renew

    @property
    def plan(self) -> Subscribe:
        """Return what the manifest says of it."""
        assert self.trigger.subscribe is not None
        return self.trigger.subscribe

    @property
    def request(self) -> Any:
        """Return the request template of it."""
        return getattr(self.plan, self.step)


def calls_of(connector: Connector) -> dict[str, HookCall]:
    """Return every call there is, what several triggers share once."""
    found: dict[str, HookCall] = {}
    seen: list[Any] = []
    for key, trigger in connector.triggers.items():
        if trigger.subscribe is None or trigger.subscribe.create in seen:
            continue
        seen.append(trigger.subscribe.create)
        for step in ("create", "list", "delete", "renew"):
            if getattr(trigger.subscribe, step) is not None:
                found[f"{key}.hook.{step}"] = HookCall(trigger, step)
    return found


def answer(connector: Connector, ledger: Ledger, about: HookCall, call: Call) -> Answer:
    """Answer one call."""
    if about.step == "create":
        return _create(connector, ledger, about, call)
    if about.step == "list":
        rows = ledger.run("SELECT * FROM subscription WHERE installation = ?", BY_ORDER)
        items = [_item(about.plan, row["id"], row["url"]) for row in rows]
        steps = place(about.plan.page["object"]["items"])
        body: Any = {} if steps else items
        if steps:
            put(body, steps, items)
        return Answer(200, body, {})
    key = [*call.places.values()][-1]
    if about.step == "delete" and not ledger.unsubscribe(key):
        raise refusal(404, "NO_WEBHOOK", "There is no such webhook")
    return Answer(200 if about.step == "renew" else 204, {}, {})


def _create(connector: Connector, ledger: Ledger, about: HookCall, call: Call) -> Answer:
    sent = call.body if isinstance(call.body, dict) else {}
    given = dict(_given(about.plan, sent))
    url = str(given.get("url", ""))
    if not url.startswith(("http://", "https://")):
        raise refusal(422, "INVALID", "The webhook's address is missing")
    made = "secret" in about.plan.save["object"]
    secret = "whsec_" + secrets.token_hex(16) if made else str(given.get("secret", ""))
    text = isinstance(about.plan.sample.get("id"), str)
    key = f"hook_{secrets.token_hex(6)}" if text else str(secrets.randbelow(10**8) + 1)
    row = ledger.subscribe(key, BY_ORDER, url, _events(connector, given.get("topic")), secret)
    ledger.keep(f"{about.trigger.key}.hook", None, call.raw, 201, b"{}", None)
    body = _item(about.plan, row["id"], url)
    for name, value in (("id", _typed(row["id"], text=text)), ("secret", row["secret"])):
        stated = about.plan.save["object"].get(name)
        if stated is not None:
            put(body, place(stated), value)
    return Answer(201, body, {})


def _item(plan: Subscribe, key: str, url: str) -> Any:
    item = copy.deepcopy(dict(plan.sample))
    if plan.match is not None:
        text = isinstance(plan.sample.get("id"), str)
        put(item, place(plan.match["object"]["id"]), _typed(key, text=text))
        put(item, place(plan.match["object"]["url"]), url)
    return item


def _typed(key: str, *, text: bool) -> Any:
    return key if text or not key.isdecimal() else int(key)


def _events(connector: Connector, topic: Any) -> list[str]:
    """Return the events that a topic stands for, as the hub names them; all without one."""
    if not topic:
        return ["*"]
    return [
        one.event
        for one in connector.triggers.values()
        if one.subscribe and subscribing.hook_of(one)["topic"] == topic
    ] or ["*"]


def _given(plan: Subscribe, sent: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give what an order sent of a webhook: its address, secret and topic."""
    for document in (plan.create.json, plan.create.form):
        yield from _read(document, sent)


def _read(document: Any, sent: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(document, Mapping):
        for name, part in document.items():
            inside = sent if name == "object" else sent.get(name) if _is_map(sent) else None
            yield from _read(part, inside)
    elif isinstance(document, list):
        for part, one in zip(document, sent if isinstance(sent, list) else [], strict=False):
            yield from _read(part, one)
    elif isinstance(document, str) and document.startswith("${hook.") and sent is not None:
        name = document.removeprefix("${hook.").removesuffix("}")
        if name.isidentifier():
            yield name, sent


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)
