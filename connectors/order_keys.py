"""Order keys: what makes two events of a flow belong together, so that they run one by one.

A trigger's `order_key` is `none`, `flow` (all runs of the flow), `subject` (the event's) or a text
that reads the event, like every leaf of a mapping: `${event.data.order_no}`. Events that have no
such value belong together, too.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from connectors.engine import mapping
from connectors.engine.findings import EngineError, Say, say
from connectors.engine.schemas import Schema
from connectors.seen import seen_as
from kernel import documents
from kernel.errors import Problem

NONE, FLOW, SUBJECT = "none", "flow", "subject"
WORDS = (NONE, FLOW, SUBJECT)
MAX_LENGTH = 500  # of an order key as it is written, and of a value
_ROOTS = frozenset({"event"})
_MAX_STEPS, _MAX_SIZE = 1_000, 20_000


def of_trigger(trigger: Mapping[str, Any]) -> str | None:
    """Return a trigger's order key, None when its runs go in no order."""
    written = str(trigger.get("order_key") or "").strip()
    return None if written in ("", NONE) else written


def check(order_key: str, event_schema: Schema | None) -> list[Say]:
    """Return what keeps an order key from being used; [] means it is good."""
    if order_key in WORDS:
        return []
    if len(order_key) > MAX_LENGTH:
        return [say(f"不能超过 {MAX_LENGTH} 个字", f"It is longer than {MAX_LENGTH} characters")]
    if "${" not in order_key or not order_key.strip(" ${}"):
        return [_READS_NOTHING]
    sources = mapping.source_schema(event_schema, {})
    found = mapping.check_mapping(order_key, sources, None, _ROOTS)
    if found:
        return [problem.say for problem in found]
    return [] if mapping.prepare(order_key, _ROOTS).used else [_READS_NOTHING]


def value_of(order_key: str, event: Any) -> str:
    """Return the value that an event has under an order key; "" for those that have none.

    It reads what a tenant's sender wrote, so nothing about it may break the caller.
    """
    if order_key == FLOW:
        return ""
    if order_key == SUBJECT:
        return _bounded(event.subject or "")
    try:
        seen = {"event": seen_as(event)}
        value = _plan(order_key).apply(seen, _MAX_STEPS, _MAX_SIZE)
    except (Problem, EngineError):
        return ""
    if value is None or isinstance(value, str):
        return _bounded(value or "")
    return _bounded(documents.dump(value).decode())


@lru_cache(maxsize=1024)
def _plan(order_key: str) -> mapping.Plan:
    return mapping.prepare(order_key, _ROOTS)


def _bounded(text: str) -> str:
    """Return a value as both databases can keep and index it."""
    text = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if len(text) <= MAX_LENGTH:
        return text
    return text[:400] + "…" + hashlib.sha256(text.encode()).hexdigest()


_READS_NOTHING = say(
    "请从事件里取一个字段，例如 ${event.data.order_no}",
    "It must read a field of the event, for example ${event.data.order_no}",
)
