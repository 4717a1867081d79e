"""Batches: many items in requests of a few, with what became of each item kept apart.

What was done so far is a plain document: {"items": [[key, state, what], …]} in the order of the
input. State is todo, ok (what: the output), again (what: {cause, say, detail, after_seconds}) or
failed (the same). The key is that of the item's effect: it depends on the content and not on the
place, so that a list that a person corrected sends again only what was changed or had failed.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.engine import templates
from connectors.engine.connector import Action
from connectors.engine.declared import Batch
from connectors.engine.expressions import EvaluationError
from connectors.engine.findings import EngineError, Say, say
from connectors.engine.functions import to_text
from kernel import documents

MAX_ITEMS = 1_000
MAX_KEPT_BYTES = 56 * 1024  # what a step keeps of its output, less some for the rest
MAX_NAMED = 5  # items whose trouble is told in words

Entry = tuple[str, str, Any]


def output_schema(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of what a batch gives: how many, and the output of each in order."""
    defs = {"$defs": one["$defs"]} if "$defs" in one else {}
    item = {name: value for name, value in one.items() if name not in ("$defs", "$schema")}
    return {
        **defs,
        "type": "object",
        "required": ["count", "results"],
        "additionalProperties": False,
        "properties": {
            "count": {"type": "integer", "x-title": say("项数", "Items")},
            "results": {
                "type": "array",
                "items": item,
                "x-title": say("每项的结果", "The result of each item"),
            },
        },
    }


def begin(
    batch: Batch, given: Any, effect_key: str, kept: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what is to be done: items that were done before stay done; raises EngineError."""
    items = given.get(batch.over) if isinstance(given, Mapping) else None
    if not isinstance(items, list):
        raise EngineError(say(f"{batch.over} 须是列表", f"{batch.over} must be a list"))
    if len(items) > MAX_ITEMS:
        text = f"一次最多 {MAX_ITEMS} 项", f"At most {MAX_ITEMS} items go in one step"
        raise EngineError(say(*text))
    known: dict[str, Entry] = {one[0]: tuple(one) for one in (kept or {}).get("items", ())}
    keys = _keys(items, effect_key)
    entries = [known.get(key, (key, "todo", None)) for key in keys]
    states = {state for _, state, _ in entries}
    # an automatic retry goes on with what may be tried again; a person's takes up what failed
    wakes = {"again"} if states & {"again", "todo"} else {"again", "failed"}
    return {"items": [(k, "todo", None) if s in wakes else (k, s, what) for k, s, what in entries]}


def _keys(items: Sequence[Any], effect_key: str) -> list[str]:
    seen: Counter[bytes] = Counter()
    keys = []
    for item in items:
        content = hashlib.sha256(documents.dump(item, sort_keys=True)).digest()
        seen[content] += 1
        mixed = b"%s\n%s\n%d" % (effect_key.encode(), content, seen[content])
        keys.append(hashlib.sha256(mixed).hexdigest()[:20])
    return keys


def bounded(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return progress that a step can keep: what became of each item, if need be without details.

    Losing its place would send items again, so of many long outputs none is kept.
    """
    named = 0
    items: list[Entry] = []
    for key, state, what in progress["items"]:
        if state in ("failed", "again"):
            named += 1
        is_short = state in ("failed", "again") and named > MAX_NAMED
        items.append((key, state, {"cause": what["cause"]} if is_short else what))
    if len(documents.dump(items)) > MAX_KEPT_BYTES:
        items = [(key, state, {} if state == "ok" else what) for key, state, what in items]
    return {"items": items}


def key_of(progress: Mapping[str, Any], place: int) -> str:
    """Return the effect key of one item."""
    return f"eff_{progress['items'][place][0]}"


def chunk(batch: Batch, progress: Mapping[str, Any]) -> list[int]:
    """Return the places of the items that go with the next request."""
    places = [place for place, entry in enumerate(progress["items"]) if entry[1] == "todo"]
    return places[: batch.max]


def look(batch: Batch, given: Any, progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request may read: `look.items`, each with item, index and effect_key, and
    `look.batch`, the items alone.
    """
    places = chunk(batch, progress)
    return {
        "items": [
            {"item": given[batch.over][n], "index": n, "effect_key": key_of(progress, n)}
            for n in places
        ],
        "batch": [given[batch.over][n] for n in places],
    }


def pair(
    action: Action, given: Any, progress: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[int, Any]:
    """Return which result belongs to which of the items that went along, by their places."""
    batch = action.batch
    assert batch is not None
    results = _value(batch.results, facts)
    if not isinstance(results, list):
        return {}
    places = chunk(batch, progress)
    if batch.match_item is None:
        return dict(zip(places, results, strict=False)) if len(results) == len(places) else {}
    by_name: dict[str, list[Any]] = {}
    for result in results:
        by_name.setdefault(_name(batch.match_result, {**facts, "item": result}), []).append(result)
    found: dict[int, Any] = {}
    for place in places:
        known = {"item": given[batch.over][place], "effect_key": key_of(progress, place)}
        waiting = by_name.get(_name(batch.match_item, known))
        if waiting:
            found[place] = waiting.pop(0)
    return found


def told(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output of a batch all of whose items are done."""
    return {"count": len(progress["items"]), "results": [what for _, _, what in progress["items"]]}


def trouble(progress: Mapping[str, Any], state: str) -> tuple[str, Say, str, int | None]:
    """Return (cause, words, detail, seconds to wait) of the items that are `again` or `failed`."""
    entries = [(n, what) for n, (_, s, what) in enumerate(progress["items"]) if s == state]
    every, first = len(progress["items"]), entries[0][1]
    words = {
        "zh": f"{every} 项中有 {len(entries)} 项没有成功，其余已完成，不会重复。"
        f"第 {entries[0][0] + 1} 项：{first['say']['zh']}",
        "en": f"{len(entries)} of {every} items did not succeed; the others are done and will not "
        f"be sent again. Item {entries[0][0] + 1}: {first['say']['en']}",
    }
    named = [(n, what["detail"]) for n, what in entries[:MAX_NAMED] if what.get("detail")]
    detail = "; ".join(f"{n + 1}: {text}" for n, text in named)
    waits = [what["after_seconds"] for _, what in entries if what.get("after_seconds")]
    return first["cause"], words, detail, max(waits) if waits else None


def _name(text: str | None, known: Mapping[str, Any]) -> str:
    try:
        return to_text(_value(text, known))
    except EngineError:
        return ""


def _value(text: str | None, known: Mapping[str, Any]) -> Any:
    try:
        return templates.parse(text or "").evaluate(known)
    except EvaluationError:
        return None
