"""What is checked when a mapping is saved: paths against the source, leaves against the target."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.engine import schemas
from connectors.engine.expressions import ROOTS, Expression
from connectors.engine.findings import Problem, Say, escape, say
from connectors.engine.functions import shown
from connectors.engine.mapping_nodes import (
    CodeTable,
    Const,
    Default,
    Each,
    Fields,
    Items,
    Leaf,
    Node,
    Optional,
    Reader,
    Rest,
    When,
)
from connectors.engine.nodes import Call, Cel, Literal, Path
from connectors.engine.schemas import Schema

# dotted prefix → the schema of the value that stands there, e.g. "event.data", "steps.erp.output"
Sources = Mapping[str, Schema]
TEXT_CALLS = frozenset(
    {"money", "date", "text", "plus", "minus", "times", "lower", "upper", "trim", "join", "json"}
    | {"moment", "epoch"}
    | {"replace", "part"}
)
EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "type": {"type": "string"},
        "version": {"type": ["string", "integer", "null"]},
        "subject": {"type": ["string", "null"]},
        "time": {"type": "string"},
        "source": {"type": ["string", "null"]},
        "data": {},
    },
}


@dataclass(frozen=True, slots=True)
class _Place:
    """A schema and the document its local references belong to."""

    root: Any
    node: Any


def source_schema(event_data_schema: Schema | None, steps: Mapping[str, Schema | None]) -> Sources:
    """Return what a flow's mappings may read: the event, and what earlier steps gave."""
    sources: dict[str, Schema] = {
        "event": EVENT,
        "steps": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                key: {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"input": {}, "output": {}},
                }
                for key in steps
            },
        },
    }
    if event_data_schema is not None:
        sources["event.data"] = event_data_schema
    for key, schema in steps.items():
        if schema is not None:
            sources[f"steps.{key}.output"] = schema
    return sources


def check_mapping(
    document: Any,
    sources: Sources | None = None,
    target_schema: Schema | None = None,
    roots: frozenset[str] = ROOTS,
) -> list[Problem]:
    """Return everything that is or must go wrong with a mapping; [] when it may be saved."""
    reader = Reader(roots)
    node = reader.read(document, "", roots)
    if reader.problems:
        return reader.problems
    checker = _Checker(sources)
    checker.visit(node, "", _Place(target_schema, target_schema), {})
    return checker.problems


def check_condition(
    expression: Expression, sources: Sources | None, target: str = ""
) -> list[Problem]:
    """Return what is wrong with a condition's paths."""
    checker = _Checker(sources)
    checker.paths(expression, target, {})
    return checker.problems


def element_of(source: str, sources: Sources) -> tuple[Schema | None, int]:
    """Return the schema of what a list holds that an expression reads, and how many at least.

    (None, 0) where nobody knows; `source` is written as `${event.data.lines}`.
    """
    node = Reader().read({"each": source, "do": ""}, "", ROOTS)
    if not isinstance(node, Each) or not isinstance(node.source.node, Path):
        return None, 0
    place = _Checker(sources).place_of(node.source.node)
    if place is None or not isinstance(place.node, Mapping):
        return None, 0
    fewest = place.node.get("minItems", 0)
    element = _element(place).node
    if isinstance(element, Mapping) and isinstance(place.root, Mapping) and "$defs" in place.root:
        element = {**element, "$defs": place.root["$defs"]}
    return element, fewest if isinstance(fewest, int) else 0


Scope = dict[str, _Place | None]


class _Checker:
    """Walks a mapping beside its target's schema."""

    def __init__(self, sources: Sources | None) -> None:
        self.sources = sources
        self.problems: list[Problem] = []

    def place_of(self, path: Path) -> _Place | None:
        """Return the schema at a path, None where nobody knows it."""
        return self._locate(path, {})[1]

    def problem(self, at: str, sentence: Say, source: str | None = None) -> None:
        self.problems.append(Problem(at, sentence, source))

    def visit(self, node: Node, at: str, target: _Place, scope: Scope) -> None:
        """Check one node against the schema of its target."""
        wanted = schemas.deref(target.root, target.node)
        place = _Place(target.root, wanted)
        if wanted is False:
            self.problem(at, say("目标里没有这个字段", "The target has no such field"))
        elif isinstance(node, Const):
            self._const(node, at, place)
        elif isinstance(node, Leaf):
            self._leaf(node, at, place, scope)
        elif isinstance(node, Fields):
            self._fields(node, at, place, scope)
        elif isinstance(node, Items):
            self._kind(at, {"array"}, place)
            for position, item in enumerate(node.items):
                self.visit(item, f"{at}/{position}", _element(place), scope)
        elif isinstance(node, Each):
            self._each(node, at, place, scope)
        elif isinstance(node, Rest):
            self._path(node.source, at, scope)
            self._kind(at, {"object"}, place)
        else:
            self._wrapper(node, at, target, scope)

    def _wrapper(
        self, node: When | Default | Optional | CodeTable, at: str, target: _Place, scope: Scope
    ) -> None:
        anything = _Place(None, None)
        if isinstance(node, When):
            self.paths(node.test, at, scope)
            self.visit(node.then, at, target, scope)
            if node.otherwise is not None:
                self.visit(node.otherwise, at, target, scope)
        elif isinstance(node, Default):
            self.visit(node.value, at, target, scope)
            self.visit(node.default, at, target, scope)
        elif isinstance(node, Optional):
            self.visit(node.value, at, target, scope)
        else:
            self.visit(node.of, at, anything, scope)
            for value in node.table.values():
                self._const(Const(value), at, target)
            if not isinstance(node.unknown, str):
                self.visit(node.unknown, at, target, scope)

    def _const(self, node: Const, at: str, place: _Place) -> None:
        if not isinstance(place.node, Mapping):
            return
        whole = place.node
        if isinstance(place.root, Mapping) and "$defs" in place.root:
            whole = {**whole, "$defs": place.root["$defs"]}
        self.problems += schemas.problems(whole, node.value, at)

    def _fields(self, node: Fields, at: str, place: _Place, scope: Scope) -> None:
        self._kind(at, {"object"}, place)
        for name, child in node.fields:
            there, schema = schemas.declared_below(place.root, place.node, name)
            below = f"{at}/{escape(name)}"
            if not there:
                self.problem(
                    below, say(f"目标里没有字段“{name}”", f"The target has no field “{name}”")
                )
            self.visit(child, below, _Place(place.root, schema), scope)
        if isinstance(place.node, Mapping):
            given = {name for name, _ in node.fields}
            for name in place.node.get("required", []):
                if name not in given:
                    zh, en = _called(name, place)
                    self.problem(
                        f"{at}/{escape(name)}",
                        say(f"还没有填写必填项“{zh}”", f"The required field “{en}” is not filled"),
                    )

    def _each(self, node: Each, at: str, place: _Place, scope: Scope) -> None:
        self.paths(node.source, at, scope)
        self._kind(at, {"array"}, place)
        item: _Place | None = None
        if isinstance(node.source.node, Path):
            found = self._locate(node.source.node, scope)[1]
            if found is not None:
                kinds = schemas.kinds(found.node)
                if kinds and "array" not in kinds:
                    self.problem(
                        at,
                        say(f"{node.source.text} 不是列表", f"{node.source.text} is not a list"),
                        node.source.text,
                    )
                item = _element(found)
        inner = {**scope, node.name: item, "index": None}
        if node.test is not None:
            self.paths(node.test, at, inner)
        self.visit(node.do, f"{at}/0", _element(place), inner)

    def _leaf(self, node: Leaf, at: str, place: _Place, scope: Scope) -> None:
        known = len(self.problems)
        for expression in node.template.expressions:
            self.paths(expression, at, scope)
        if len(self.problems) > known:
            return
        if not node.template.is_typed:
            self._kind(at, {"string"}, place)
            return
        self._kind(at, self._kinds_of(node.template.expressions[0].node, scope), place)

    def _kinds_of(self, node: Any, scope: Scope) -> set[str]:
        if isinstance(node, Path):
            found = self._locate(node, scope)[1]
            return schemas.kinds(found.node) if found is not None else set()
        if isinstance(node, Literal):
            return {schemas.kind(node.value)}
        if isinstance(node, Call):
            if node.name in TEXT_CALLS:
                return {"string"}
            return {"int": {"integer"}, "has": {"boolean"}}.get(node.name, set())
        return set()

    def _kind(self, at: str, given: set[str], place: _Place) -> None:
        wanted = schemas.kinds(place.node)
        if not given or not wanted:
            return
        wide = wanted | ({"integer"} if "number" in wanted else set())
        wide |= {"number"} if "integer" in wanted else set()
        if not given & wide:
            self.problem(
                at,
                say(
                    f"类型不符：目标要 {_names(wanted)}，这里给的是 {_names(given)}",
                    f"The target takes {_names(wanted)}, but this gives {_names(given)}",
                ),
            )

    def paths(self, expression: Expression, at: str, scope: Scope) -> None:
        """Check every path an expression reads."""
        for path in _all_paths(expression.node):
            self._path(path, at, scope)

    def _path(self, path: Path, at: str, scope: Scope) -> None:
        there, _ = self._locate(path, scope)
        if not there:
            self.problem(
                at,
                say(f"来源里没有 {path.plain()}", f"The source has no {shown(path.plain())}"),
                path.plain(),
            )

    def _locate(self, path: Path, scope: Scope) -> tuple[bool, _Place | None]:
        root = path.steps[0]
        if root in scope:
            place = scope[str(root)]
            if place is None:
                return True, None
            return _follow(place, path.steps[1:])
        if self.sources is None:
            return True, None
        best = max(
            (prefix for prefix in self.sources if _starts(path, prefix)), key=len, default=None
        )
        if best is None:
            known = {prefix.split(".")[0] for prefix in self.sources}
            return root not in ROOTS or root in known or not known, None
        schema = self.sources[best]
        return _follow(_Place(schema, schema), path.steps[len(best.split(".")) :])


def _starts(path: Path, prefix: str) -> bool:
    parts = tuple(prefix.split("."))
    return path.steps[: len(parts)] == parts


def _follow(place: _Place, steps: tuple[str | int, ...]) -> tuple[bool, _Place | None]:
    root, node = place.root, schemas.deref(place.root, place.node)
    for step in steps:
        there, node = schemas.declared_below(root, node, step)
        if not there:
            return False, None
        node = schemas.deref(root, node)
        if node is None:
            return True, None
    return True, _Place(root, node)


def _element(place: _Place) -> _Place:
    node = place.node.get("items") if isinstance(place.node, Mapping) else None
    return _Place(place.root, schemas.deref(place.root, node))


def _all_paths(node: Any) -> Iterator[Path]:
    if isinstance(node, Path):
        yield node
    elif isinstance(node, Call):
        for argument in node.arguments:
            yield from _all_paths(argument)
    elif isinstance(node, Cel):
        for binding in node.bindings:
            yield from _all_paths(binding)


def _called(name: str, place: _Place) -> tuple[str, str]:
    """Return what people call a field, in Chinese and English, with its name behind."""
    _, node = schemas.declared_below(place.root, place.node, name)
    title = node.get("x-title") if isinstance(node, Mapping) else None
    if not isinstance(title, Mapping):
        return name, name
    return f"{title.get('zh', name)}（{name}）", f"{title.get('en', name)} ({name})"


def _names(kinds: set[str]) -> str:
    return "/".join(sorted(kinds))
