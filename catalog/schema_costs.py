"""What holding a value against a stranger's schema can cost, known before it is done.

A step is one rule looked at, some ten nanoseconds in the fast validator. A schema's Load says how
many steps one part of a value takes at worst; times the value's parts it bounds the whole.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple, Self

MAX_STEPS = 4_000_000  # some forty milliseconds
MAX_EXPANDED_NODES = 50_000  # with every $ref written out
MAX_EXPANDED_DEPTH = 100  # so that the explainer, which recurses, has room
MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
ONE = (
    *("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"),
    *("contentSchema",),
)
_BESIDE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
_SILENT = frozenset(
    {"title", "description", "default", "examples", "$comment", "$schema", "$id", "$defs"}
    | {"definitions", "deprecated", "readOnly", "writeOnly"}
)
_DEAR = 30  # steps of a rule that looks at everything below, or divides long numbers
Schema = dict[str, Any]


class Load(NamedTuple):
    """Steps at worst for each list or object, each key, each plain value and each character."""

    container: int = 0
    key: int = 0
    plain: int = 0
    text: int = 0

    def plus(self, other: Self) -> "Load":
        """Return the load of both together."""
        return Load(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def or_(self, other: Self) -> "Load":
        """Return what is at least the load of either."""
        return Load(*(max(pair) for pair in zip(self, other, strict=True)))


class Weight(NamedTuple):
    """How much of each there is in a value."""

    containers: int
    keys: int
    plain: int
    characters: int

    def steps(self, load: Load) -> int:
        """Return how many steps a schema of this load takes at worst."""
        return sum(count * cost for count, cost in zip(self, load, strict=True))


def children(schema: Any) -> Iterator[tuple[str, Any]]:
    """Give the schemas directly inside a schema, with their pointer below it."""
    if not isinstance(schema, dict):
        return
    for word in MANY:
        if isinstance(schema.get(word), list):
            for index, child in enumerate(schema[word]):
                yield f"/{word}/{index}", child
    for word in NAMED:
        if isinstance(schema.get(word), dict):
            for name, child in schema[word].items():
                yield f"/{word}/{escape(name)}", child
    for word in ONE:
        if isinstance(schema.get(word), dict | bool):
            yield f"/{word}", schema[word]


def escape(name: str) -> str:
    """Write a name as one part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def resolve(root: Schema, reference: str) -> Any:
    """Follow a reference inside the document; None when it leads nowhere or outside."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    target: Any = root
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isdecimal() and int(name[:9]) < len(target):
            target = target[int(name[:9])]
        else:
            return None
    return target if isinstance(target, dict | bool) else None


def expanded(root: Schema) -> tuple[int, int]:
    """Count a schema's parts and levels with every $ref written out; RecursionError for a ring."""
    sizes: dict[int, tuple[int, int]] = {}
    open_now: set[int] = set()

    def size(part: Any) -> tuple[int, int]:
        if not isinstance(part, dict):
            return 1, 1
        if id(part) in open_now:
            raise RecursionError
        if id(part) not in sizes:
            open_now.add(id(part))
            inside = [
                size(child)
                for below, child in children(part)
                if not below.startswith(("/$defs/", "/definitions/"))
            ]
            if isinstance(part.get("$ref"), str):
                inside.append(size(resolve(root, part["$ref"])))
            open_now.discard(id(part))
            deepest = max((depth for _, depth in inside), default=0)
            sizes[id(part)] = 1 + sum(count for count, _ in inside), 1 + deepest
        return sizes[id(part)]

    return size(root)


def load_of(root: Schema) -> Load:
    """Return a schema's load; it must not contain itself."""
    known: dict[int, tuple[Load, Load]] = {}

    def whole(part: Any) -> Load:
        here, below = look(part)
        return here.or_(below)

    def look(part: Any) -> tuple[Load, Load]:
        """Return the load at a value that meets this schema, and the worst anywhere inside it."""
        if not isinstance(part, dict):
            return Load(1, 0, 1), Load()
        if id(part) not in known:
            known[id(part)] = Load(), Load()  # a ring, which only the house's own may have
            here, below = _own(part), _inside(part)
            for beside in _beside(part):
                more_here, more_below = look(beside)
                here, below = here.plus(more_here), below.plus(more_below)
            if "propertyNames" in part:
                names = look(part["propertyNames"])[0]
                here = here.plus(Load(0, names.plain + names.text * 16, 0))
            known[id(part)] = here, below
        return known[id(part)]

    def _inside(part: Schema) -> Load:
        named = _worst(map(whole, (part.get("properties") or {}).values()))
        for pattern in (part.get("patternProperties") or {}).values():
            named = named.plus(whole(pattern))
        named = named.plus(whole(part.get("additionalProperties", True)))
        listed = _worst(map(whole, part.get("prefixItems") or ()))
        listed = listed.plus(whole(part.get("items", True)))
        return named.or_(listed.plus(whole(part.get("contains", True))))

    def _beside(part: Schema) -> Iterator[Any]:
        if isinstance(part.get("$ref"), str):
            yield resolve(root, part["$ref"])
        for below, child in children(part):
            if below.split("/")[1] in _BESIDE:
                yield child

    return whole(root)


def _worst(loads: Any) -> Load:
    found = Load()
    for load in loads:
        found = found.or_(load)
    return found


def _own(part: Schema) -> Load:
    """Return what a schema's own rules cost, without those of the schemas inside it."""
    rules = 1 + sum(1 for word in part if word not in _SILENT and not word.startswith("x-"))
    compared = sum(_nodes(part[word]) for word in ("enum", "const") if word in part)
    dear = _DEAR * sum(1 for word in ("uniqueItems", "contains") if word in part)
    wanted = len(part.get("required") or ()) + len(part.get("properties") or ())
    wanted += sum(1 + len(names) for names in (part.get("dependentRequired") or {}).values())
    return Load(
        container=rules + compared + dear + wanted,
        # a key is some sixteen characters
        key=16 * len(part.get("patternProperties") or ()) + ("additionalProperties" in part),
        plain=rules + compared + (_DEAR if "multipleOf" in part else 0),
        text=2 * ("pattern" in part) + (8 if part.get("format") == "regex" else "format" in part),
    )


def _nodes(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_nodes, value.values()))
    return 1 + sum(map(_nodes, value)) if isinstance(value, list) else 1


def weigh(value: Any) -> Weight:
    """Count a value's parts; a long number weighs as much as the work it makes."""
    containers = keys = plain = characters = 0
    todo = [value]
    while todo:
        item = todo.pop()
        kind = type(item)
        if kind is dict:
            containers, keys = containers + 1, keys + len(item)
            todo += item.values()
        elif kind is list:
            containers += 1
            todo += item
        else:
            plain += 1
            if kind is str:
                characters += len(item)
            elif kind is Decimal:
                _, digits, exponent = item.as_tuple()
                plain += (len(digits) + abs(int(exponent))) ** 2 >> 7
            elif kind is int:
                plain += (item.bit_length() // 3) ** 2 >> 7
    return Weight(containers, keys, plain, characters)
