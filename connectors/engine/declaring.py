"""Reading what a manifest declares beside single calls, from parts that fit its contract."""

from collections.abc import Callable, Mapping
from typing import Any

from connectors.engine import batches
from connectors.engine.connector import Envelope, ErrorRule, Find, KeyField
from connectors.engine.declared import Batch, Fetch, Lookup, Pages, ReadyMap

Reads = tuple[
    Callable[[dict[str, Any], str], Mapping[str, Any]],  # a schema, and where it stands
    Callable[[dict[str, Any]], Envelope],
    Callable[[list[dict[str, Any]]], tuple[ErrorRule, ...]],
]


def inherited(part: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action with what all actions of the manifest share; error rules add up."""
    merged = {**defaults, **part}
    if "errors" in defaults and "errors" in part:
        merged["errors"] = [*part["errors"], *defaults["errors"]]
    merged.pop("pages", None)
    if "pages" in part:
        merged["pages"] = {**defaults.get("pages", {}), **part["pages"]}
    return merged


def pages(stated: Mapping[str, Any] | None) -> Pages | None:
    """Return how a list is read to its end, None for what comes in one piece."""
    if stated is None:
        return None
    return Pages(
        kind=stated["kind"],
        items=stated["items"],
        size=stated.get("size", 100),
        first=stated.get("first", 1),
        next=stated.get("next"),
        link=stated.get("link"),
        more=stated.get("more"),
        max_pages=stated.get("max_pages", 20),
        max_items=stated.get("max_items", 1_000),
        cut=stated.get("cut"),
    )


def batch(
    stated: Mapping[str, Any] | None, output: Mapping[str, Any], reads: Reads
) -> Batch | None:
    """Return how many items are done in a few requests; `output` is that of one item."""
    if stated is None:
        return None
    match = stated.get("match", {})
    return Batch(
        over=stated["over"],
        max=stated["max"],
        results=stated["results"],
        match_item=match.get("item"),
        match_result=match.get("result"),
        envelope=reads[1](stated.get("envelope", {})),
        errors=reads[2](stated.get("errors", [])),
        result=stated.get("result"),
        output=output,
    )


def output_of(action_batch: Batch | None, output: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of what a step gives: of a batch, the outputs of its items."""
    return output if action_batch is None else batches.output_schema(output)


def lookups(manifest: Mapping[str, Any], reads: Reads) -> dict[str, Lookup]:
    """Return the lists of choices an app has, by key."""
    found = {}
    for key, one in manifest.get("lookups", {}).items():
        given = one.get("with", {})
        schema = one.get("input", {"type": "object", "properties": {}})
        found[key] = Lookup(
            key=key,
            title=one["title"],
            action=one["action"],
            given={"object": given},
            input=reads[0](schema, f"/lookups/{key}/input"),
            items=one["items"],
            value=one["value"],
            label=one["label"],
            cache_seconds=one.get("cache_seconds", 3600),
            searches="look.search" in repr(given),
            confidence=one.get("confidence", "documented"),
            source=one.get("source"),
        )
    return found


def fetch(stated: Mapping[str, Any] | None, reads: Reads, trigger_key: str) -> Fetch | None:
    """Return what completes the events of a trigger, None for whole ones."""
    if stated is None:
        return None
    return Fetch(
        event=stated["event"],
        version=stated.get("version", 1),
        action=stated["action"],
        given={"object": stated["with"]},
        data=stated["data"],
        subject=stated.get("subject"),
        when=stated.get("when"),
        schema=reads[0](stated["schema"], f"/triggers/{trigger_key}/fetch/schema"),
    )


def maps(manifest: Mapping[str, Any]) -> dict[str, ReadyMap]:
    """Return the ready mappings to and from the hub's own events, by key."""
    found = {}
    for key, one in manifest.get("maps", {}).items():
        start, end = one["from"], one["to"]
        event = start if "event" in start else end
        found[key] = ReadyMap(
            key=key,
            title=one["title"],
            trigger=start.get("trigger"),
            event=event["event"],
            version=event.get("version", 1),
            action=end.get("action"),
            emits="trigger" in start and one.get("emit", "beside") == "beside",
            when=one.get("when"),
            rules={"object": one["rules"]},
            confidence=one.get("confidence", "documented"),
            source=one.get("source"),
        )
    return found


def with_tables(value: Any, tables: Mapping[str, Any]) -> Any:
    """Return a manifest in which code tables that are named stand where they are used.

    A name nobody gave stays a name, which the reader of mappings then refuses.
    """
    if isinstance(value, list):
        return [with_tables(one, tables) for one in value]
    if not isinstance(value, Mapping):
        return value
    found = {name: with_tables(one, tables) for name, one in value.items()}
    table = found.get("code_table")
    if isinstance(table, dict) and isinstance(table.get("table"), str):
        known = tables.get(table["table"])
        if known is not None:
            found["code_table"] = {**table, "table": dict(known)}
    return found


def repeating(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return how an app tells a repetition: by a number of ours, or by being asked."""
    found = stated.get("find")
    field = stated.get("field")
    return {
        "key_field": KeyField(field, stated.get("max", 64), stated.get("shape", "text"))
        if field
        else None,
        "find": Find(found["action"], {"object": found.get("with", {})}, found["then"])
        if found
        else None,
    }


def transports(http: Mapping[str, Any]) -> dict[str, str]:
    """Return how addresses are spoken to, by the name of the base ("": the connector's own)."""
    own = {"": http["transport"]} if "transport" in http else {}
    return {**http.get("transports", {}), **own}
