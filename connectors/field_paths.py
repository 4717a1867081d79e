"""Fields to pick from: what an event and earlier steps offer, and what an action wants."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors import flow_trees
from connectors.engine import flow_rests, flow_steps, mapping, mapping_check, schemas
from connectors.flow_documents import action_of
from kernel.errors import NotFound

MAX_FIELDS = 400
MAX_DEPTH = 5
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


@dataclass(frozen=True)
class Offer:
    """One value that an expression may read."""

    expression: str  # "${event.data.order_no}"
    origin: str  # "event" or the key of a step
    title: Any
    kind: str
    path: tuple[str, ...] = ()  # below `root`
    root: str = ""  # "event.data", "item", "steps.erp.output"
    schema: Mapping[str, Any] = field(default_factory=dict, compare=False)
    is_sure: bool = False  # its schema says that it is always there


@dataclass(frozen=True)
class Wanted:
    """One field of an action's input."""

    path: str  # "customer.name"
    title: Any
    kind: str
    is_required: bool
    schema: Mapping[str, Any] = field(default_factory=dict, compare=False)


def offers(
    document: Mapping[str, Any], position: int, event_schema: Mapping[str, Any] | None
) -> list[Offer]:
    """Return what a step may read: its loop's item, the event, then each earlier step.

    `position` is its number in the order of reading.
    """
    found = [
        Offer("${event.subject}", "event", {"zh": "事件主题", "en": "Subject"}, "string"),
        Offer("${event.time}", "event", {"zh": "发生时间", "en": "Time"}, "string"),
        Offer("${event.id}", "event", {"zh": "事件编号", "en": "Event id"}, "string"),
    ]
    earlier, loops, has_failed = _before(document, position)
    if has_failed:
        found += [offer_of("error", "error", leaf) for leaf in leaves(flow_rests.ERROR)]
    for loop in loops:
        element, _ = mapping_check.element_of(
            str(loop.get("over") or ""), mapping.source_schema(event_schema, {})
        )
        known = element if isinstance(element, Mapping) else None
        found.append(Offer("${item}", loop["key"], {"zh": "这一项", "en": "The item"}, "any"))
        found += [offer_of("item", loop["key"], leaf) for leaf in leaves(known)]
        number = {"zh": "第几项，从 0 起", "en": "Its number, from 0"}
        found.append(Offer("${index}", loop["key"], number, "integer"))
    found += [offer_of("event.data", "event", leaf) for leaf in leaves(event_schema)]
    for step in earlier:
        if step["kind"] == "filter":
            continue
        root = f"steps.{step['key']}.output"
        found += [offer_of(root, step["key"], leaf) for leaf in leaves(_output_schema(step))]
    return found[:MAX_FIELDS]


def _before(
    document: Mapping[str, Any], position: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
    """Return the steps that may have been done before a step, and the innermost loop around it.

    Also whether it stands in an error path.
    """
    places = flow_trees.walk(document)
    if position >= len(places):
        return [], [], False
    has_failed = False
    earlier: list[dict[str, Any]] = []
    loops: list[dict[str, Any]] = []
    at: flow_trees.Place | None = places[position]
    while at is not None:
        nearer: list[dict[str, Any]] = []
        for sibling in at.siblings[: at.index]:
            within = flow_trees.walk({"steps": [sibling]})
            # what a loop did for its items cannot be read outside of it
            nearer += [one.step for one in within if sibling["kind"] != "each" or not one.depth]
        earlier = nearer + earlier
        number, _, name = at.inside.partition("/")
        around = places[int(number)] if number.isdigit() else None
        has_failed |= name == flow_trees.ON_ERROR
        if at.inside == flow_trees.OF_THE_FLOW:
            done = {"steps": document.get("steps")}
            earlier = [one.step for one in flow_trees.walk(done) if not one.depth] + earlier
        is_body = name == flow_trees.BODY
        if around is not None and around.step["kind"] == "each" and is_body and not loops:
            loops.append(around.step)
        if around is not None and around.step["kind"] == "approval":
            earlier.insert(0, around.step)
        at = around
    return earlier, loops, has_failed


def wanted(connector_key: str | None, action_key: str | None) -> list[Wanted]:
    """Return the fields of an action's input, the required ones first."""
    try:
        _, action = action_of(connector_key or "", action_key or "")
    except NotFound:
        return []
    found = [
        Wanted(
            ".".join(leaf.path),
            leaf.title,
            kind_of(leaf.schema),
            leaf.is_required,
            leaf.schema,
        )
        for leaf in leaves(action.input)
    ]
    return sorted(found[:MAX_FIELDS], key=lambda one: not one.is_required)


@dataclass(frozen=True)
class Leaf:
    """A field of a schema that has none below it."""

    path: tuple[str, ...]
    schema: Mapping[str, Any]
    is_required: bool
    title: Any


def leaves(schema: Mapping[str, Any] | None) -> Iterator[Leaf]:
    """Walk a schema and give each field that has none below it, titled with what it is part of."""
    if schema is not None:
        yield from _leaves(schema, schema, (), (), required=True)


def _leaves(
    root: Any, node: Any, path: tuple[str, ...], titles: tuple[Any, ...], *, required: bool
) -> Iterator[Leaf]:
    titles += (_title(root, node),)
    node = schemas.deref(root, node)
    if not isinstance(node, Mapping):
        return
    properties = node.get("properties")
    if properties and len(path) < MAX_DEPTH:
        needed: Sequence[str] = node.get("required", ())
        for name, child in properties.items():
            yield from _leaves(
                root, child, (*path, name), titles, required=required and name in needed
            )
    elif path:
        yield Leaf(path, _whole(root, node), required, _joined(path, titles[1:]))


def _title(root: Any, node: Any) -> Any:
    """Return what a field is called: where it stands first, then where it refers to."""
    for one in (node, schemas.deref(root, node)):
        if isinstance(one, Mapping) and (one.get("x-title") or one.get("title")):
            return one.get("x-title") or one["title"]
    return None


def _joined(path: tuple[str, ...], titles: tuple[Any, ...]) -> Any:
    """Join the titles from the outside in; a field nobody titled is called by its path."""
    if titles[-1] is None:
        return ".".join(path)
    return {
        language: " · ".join(
            str(title.get(language) or name) if isinstance(title, Mapping) else str(title or name)
            for name, title in zip(path, titles, strict=True)
        )
        for language in ("zh", "en")
    }


def _output_schema(step: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if step["kind"] == "action":
        try:
            return action_of(step.get("connector") or "", step.get("action") or "")[1].output
        except NotFound:
            return None
    if step["kind"] == "store":
        return flow_rests.stored(str(step.get("operation")))
    if step["kind"] in _GIVEN:
        return _GIVEN[step["kind"]]
    mapped = step.get("mapping")
    if not isinstance(mapped, Mapping):
        return None
    return {"type": "object", "properties": {str(name): {} for name in mapped}}


def offer_of(root: str, origin: str, leaf: Leaf) -> Offer:
    """Return what reads a field that stands below `root`."""
    text = root + "".join(f".{one}" if _is_plain(one) else f'["{one}"]' for one in leaf.path)
    return Offer(
        f"${{{text}}}",
        origin,
        leaf.title,
        kind_of(leaf.schema),
        leaf.path,
        root,
        leaf.schema,
        leaf.is_required,
    )


def _is_plain(name: str) -> bool:
    return bool(name) and not name[0].isdigit() and all(letter in _PLAIN for letter in name)


def _whole(root: Any, node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part of a schema that can be read without the rest of it."""
    if isinstance(root, Mapping) and "$defs" in root and "$defs" not in node:
        return {**node, "$defs": root["$defs"]}
    return node


def kind_of(node: Mapping[str, Any]) -> str:
    """Return the kinds a schema allows, `string` or `number/string`; `any` where it says none."""
    return "/".join(sorted(schemas.kinds(node) - {"null"})) or "any"


# what a control step gives, with words for people
_GIVEN: dict[str, Mapping[str, Any]] = {
    "branch": flow_steps.WAY,
    "each": flow_steps.COUNTED,
    "delay": flow_steps.WAITED,
    "approval": flow_steps.DECIDED,
    "wait": flow_rests.awaited(None),
}
