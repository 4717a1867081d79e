"""What changed from one JSON Schema to the next, and whether that asks for a new version.

A change is compatible when whatever the old schema accepted is still accepted and every field a
reader knows is still there under its name: an optional field more, a rule less. Everything else
needs a new version: a field removed, renamed, newly needed, narrower or of another kind, and what
nobody can prove to be wider, such as another pattern (one with a further alternative, `old|more`,
is wider).

One thing is agreed, not proved: nobody sends fields in an open object that its schema does not
name, so that a new optional field takes no name away.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from catalog import schema_costs
from kernel import documents

Schema = dict[str, Any]
COMPATIBLE = frozenset({"added", "optional", "widened"})
BREAKING = frozenset({"removed", "renamed", "kind", "needed", "narrowed", "unclear"})
MAX_CHANGES = 400
MAX_DEPTH = 64

_SILENT = frozenset({"title", "description", "default", "examples", "$comment", "$schema", "$id"})
_SILENT |= {"deprecated", "readOnly", "writeOnly", "$defs", "definitions"}
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FROM_ZERO = frozenset({"minLength", "minItems", "minProperties"})
# without one of these more is accepted; another one may be wider or narrower
_DROPPABLE = (
    *("pattern", "format", "multipleOf", "uniqueItems", "not", "propertyNames", "allOf"),
    *("oneOf", "dependentRequired", "dependentSchemas"),
)
# what these mean depends on their neighbours: any difference is taken as unclear
_OPAQUE = (
    *("patternProperties", "prefixItems", "if", "then", "else", "contains", "minContains"),
    "maxContains",
)
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


@dataclass(frozen=True)
class Change:
    """One difference: what (a word of COMPATIBLE or BREAKING), at which field, from what to what.

    `path` is a JSON pointer with `*` for the entries of a list.
    """

    what: str
    path: str
    before: str = ""
    after: str = ""

    @property
    def needs_version(self) -> bool:
        """Tell whether those who speak the old schema could be let down."""
        return self.what in BREAKING


@dataclass(frozen=True)
class _Side:
    root: Schema
    part: Schema

    def below(self, part: Any) -> "_Side":
        return _Side(self.root, _whole(self.root, part))

    def get(self, word: str) -> Any:
        return self.part.get(word)


def changes(old: Schema, new: Schema) -> list[Change]:
    """List what differs in what two schemas say of a value, in reading order of the new one."""
    before, after = _Side(old, {}).below(old), _Side(new, {}).below(new)
    found = []
    for change in _compare(before, after, "", 0):
        if change not in found:
            found.append(change)
        if len(found) >= MAX_CHANGES:
            break
    return found


def needs_version(found: list[Change]) -> bool:
    """Tell whether any of these changes needs a new version."""
    return any(change.needs_version for change in found)


def _whole(root: Schema, part: Any, depth: int = 0) -> Schema:
    """Return a schema with what it refers to written into it."""
    if part is True or part is None:
        return {}
    if part is False:
        return {"not": {}}
    reference = part.get("$ref")
    if not isinstance(reference, str) or depth > MAX_DEPTH:
        return dict(part)
    target = _whole(root, schema_costs.resolve(root, reference), depth + 1)
    own = {word: rule for word, rule in part.items() if word != "$ref"}
    both = [word for word in own.keys() & target.keys() if _is_rule(word) and word != "required"]
    if both:
        return {**own, "allOf": [*own.get("allOf", ()), target]}
    needed = [*target.get("required", ())]
    needed += [name for name in own.get("required", ()) if name not in needed]
    return {**target, **own, **({"required": needed} if needed else {})}


def _is_rule(word: str) -> bool:
    return word not in _SILENT and not word.startswith("x-")


def bare(root: Schema, part: Any, depth: int = 0) -> Any:
    """Return only what a schema says of a value: no words, no references, one way of writing."""
    if isinstance(part, bool) or depth > MAX_DEPTH:
        return part
    whole = _whole(root, part)
    inner = {below.lstrip("/"): child for below, child in schema_costs.children(whole)}
    found: dict[str, Any] = {}
    for word, rule in whole.items():
        if not _is_rule(word):
            continue
        if word in schema_costs.NAMED:
            found[word] = {name: bare(root, child, depth + 1) for name, child in rule.items()}
        elif word in schema_costs.MANY:
            found[word] = [bare(root, child, depth + 1) for child in rule]
        elif word in inner:
            found[word] = bare(root, rule, depth + 1)
        else:
            found[word] = sorted(rule) if word == "required" else rule
    return found


# --- one place in both schemas -------------------------------------------------------------------


def _compare(old: _Side, new: _Side, path: str, depth: int) -> Iterator[Change]:
    if depth > MAX_DEPTH:
        return
    kinds = list(_kinds(old, new, path))
    yield from kinds
    if any(change.what == "kind" for change in kinds):
        return
    yield from _values(old, new, path)
    yield from _bounds(old, new, path)
    yield from _rules(old, new, path)
    yield from _alternatives(old, new, path)
    yield from _fields(old, new, path, depth)
    yield from _entries(old, new, path, depth)


def _kinds(old: _Side, new: _Side, path: str) -> Iterator[Change]:
    before, after = _types(old.part), _types(new.part)
    if before != after:
        what = "widened" if before < after else "kind"
        yield Change(what, path, _names(before), _names(after))


def _types(part: Schema) -> frozenset[str]:
    given = part.get("type")
    named = set(_TYPES if given is None else [given] if isinstance(given, str) else given)
    if "number" in named:
        named.add("integer")
    values = part.get("enum", [part["const"]] if "const" in part else None)
    return frozenset(named if values is None else named & set().union(*map(_types_of, values)))


def _types_of(value: Any) -> set[str]:
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, str):
        return {"string"}
    if isinstance(value, dict | list):
        return {"object" if isinstance(value, dict) else "array"}
    return {"integer", "number"} if value == int(value) else {"number"}


def _names(types: frozenset[str]) -> str:
    if types == _TYPES:
        return "any"
    shown = types - {"integer"} if "number" in types else types
    return " | ".join(sorted(shown)) or "–"


def _values(old: _Side, new: _Side, path: str) -> Iterator[Change]:
    before, after = _allowed(old.part), _allowed(new.part)
    if before == after:
        return
    if before is not None and (after is None or before.keys() <= after.keys()):
        what = "widened"
    else:
        what = "narrowed"
    yield Change(what, path, _said(before), _said(after))


def _allowed(part: Schema) -> dict[bytes, Any] | None:
    values = part.get("enum", [part["const"]] if "const" in part else None)
    return None if values is None else {documents.dump(value): value for value in values}


def _said(values: dict[bytes, Any] | None) -> str:
    return "" if values is None else " | ".join(str(value) for value in values.values())


def _bounds(old: _Side, new: _Side, path: str) -> Iterator[Change]:
    for word in (*_LEAST, *_MOST):
        default = 0 if word in _FROM_ZERO else None
        before = default if old.get(word) is None else old.get(word)
        after = default if new.get(word) is None else new.get(word)
        if before == after:
            continue
        if before is None or after is None:
            is_wider = after is None
        else:
            is_wider = after < before if word in _LEAST else after > before
        what = "widened" if is_wider else "narrowed"
        yield Change(what, path, _rule(word, before), _rule(word, after))


def _rules(old: _Side, new: _Side, path: str) -> Iterator[Change]:
    for word in (*_DROPPABLE, *_OPAQUE):
        before, after = (_bare_rule(side, word) for side in (old, new))
        if before == after:
            continue
        if word == "pattern" and before and str(after).startswith(f"{before}|"):
            what = "widened"
        elif word in _OPAQUE or (before is not None and after is not None):
            what = "unclear"
        else:
            what = "widened" if after is None else "narrowed"
        yield Change(what, path, _rule(word, before), _rule(word, after))


def _bare_rule(side: _Side, word: str) -> Any:
    if side.get(word) in (None, False):
        return None
    return bare(side.root, {word: side.part[word]}).get(word)


def _rule(word: str, value: Any) -> str:
    if value is None:
        return ""
    shown = value if isinstance(value, str) else documents.dump(value).decode()
    return f"{word} {shown}"


def _alternatives(old: _Side, new: _Side, path: str) -> Iterator[Change]:
    """Compare “at least one of these”; alternatives that only name needed fields are understood."""
    before, after = _bare_rule(old, "anyOf"), _bare_rule(new, "anyOf")
    if before == after:
        return
    sets_before, sets_after = _needed_sets(old, before), _needed_sets(new, after)
    if after is None:
        what = "widened"
    elif sets_before is not None and sets_after is not None:
        is_wider = all(any(few <= many for few in sets_after) for many in sets_before)
        what = "widened" if is_wider else "narrowed"
    else:
        what = "narrowed" if before is None else "unclear"
    yield Change(what, path, _rule("anyOf", before), _rule("anyOf", after))


def _needed_sets(side: _Side, alternatives: Any) -> list[set[str]] | None:
    """Return the sets of fields of which one must be there; None when more than that is asked."""
    always = set(side.get("required") or ())
    if alternatives is None:
        return [always]
    if all(isinstance(one, dict) and one.keys() == {"required"} for one in alternatives):
        return [always | set(one["required"]) for one in alternatives]
    return None


# --- what is inside ------------------------------------------------------------------------------


def _fields(old: _Side, new: _Side, path: str, depth: int) -> Iterator[Change]:
    before, after = old.get("properties") or {}, new.get("properties") or {}
    needed_before, needed = set(old.get("required") or ()), set(new.get("required") or ())
    gone = [name for name in before if name not in after]
    moved = _renamed(old, new, gone, [name for name in after if name not in before])
    for name in gone:
        if name not in moved.values():
            yield Change("removed", f"{path}/{schema_costs.escape(name)}")
    for name, part in after.items():
        here = f"{path}/{schema_costs.escape(name)}"
        if name in moved:
            yield Change("renamed", here, moved[name], name)
        elif name not in before:
            what = "needed" if name in needed else "added"
            yield Change(what, here, after=_names(_types(new.below(part).part)))
        else:
            if (name in needed) != (name in needed_before):
                yield Change("needed" if name in needed else "optional", here)
            yield from _compare(old.below(before[name]), new.below(part), here, depth + 1)
    for name in sorted(needed - needed_before - after.keys()):
        yield Change("needed", f"{path}/{schema_costs.escape(name)}")
    for name in sorted(needed_before - needed - after.keys() - before.keys()):
        yield Change("optional", f"{path}/{schema_costs.escape(name)}")
    yield from _rest(old, new, path, depth)


def _renamed(old: _Side, new: _Side, gone: list[str], come: list[str]) -> dict[str, str]:
    """Pair fields that went and came with one and the same rule and title: {new name: old name}."""
    found: dict[str, str] = {}
    for name in come:
        part = new.part["properties"][name]
        alike = [
            other
            for other in gone
            if other not in found.values()
            and _title(old.part["properties"][other]) == _title(part)
            and bare(old.root, old.part["properties"][other]) == bare(new.root, part)
        ]
        if len(alike) == 1:
            found[name] = alike[0]
    return found


def _title(part: Any) -> Any:
    return part.get("x-title") or part.get("title") if isinstance(part, dict) else None


def _rest(old: _Side, new: _Side, path: str, depth: int) -> Iterator[Change]:
    """Compare what is said of fields that have no name in the schema."""
    before, after = (_extra(side) for side in (old, new))
    if before == after == {}:
        return
    if before is False and after is not False:
        yield Change("widened", path, "additionalProperties false")
    elif before is not False and after is False:
        yield Change("narrowed", path, after="additionalProperties false")
    elif isinstance(before, dict) and isinstance(after, dict):
        yield from _compare(old.below(before), new.below(after), f"{path}/*", depth + 1)


def _extra(side: _Side) -> Any:
    given = side.part.get("additionalProperties", True)
    return {} if given is True else given


def _entries(old: _Side, new: _Side, path: str, depth: int) -> Iterator[Change]:
    before, after = old.part.get("items", True), new.part.get("items", True)
    if before is True and after is True:
        return
    yield from _compare(old.below(before), new.below(after), f"{path}/*", depth + 1)
