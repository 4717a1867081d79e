"""The tree of a mapping document: what each node is, and the reading of it from plain JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.engine import templates
from connectors.engine.expressions import ROOTS, Expression, compile_expression
from connectors.engine.findings import Problem, escape, say
from connectors.engine.nodes import Path
from connectors.engine.tokens import BadExpression

MAX_NODES = 2_000
MAX_DEPTH = 30


@dataclass(frozen=True, slots=True)
class Const:
    """A value as it stands."""

    value: Any


@dataclass(frozen=True, slots=True)
class Leaf:
    """A text with expressions in it; `path` when it is a path and nothing else."""

    template: templates.Template
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """An object: target field → node; `ends` are the fields' names as pointers have them."""

    fields: tuple[tuple[str, "Node"], ...]
    ends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """A list of nodes."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Each:
    """One output entry for every entry of a list for which `test` holds."""

    source: Expression
    name: str
    test: Expression | None
    do: "Node"


@dataclass(frozen=True, slots=True)
class When:
    """One of two nodes; without `otherwise` the target is left out."""

    test: Expression
    then: "Node"
    otherwise: "Node | None"


@dataclass(frozen=True, slots=True)
class Default:
    """A node and what stands in when its value is missing or null."""

    value: "Node"
    default: "Node"


@dataclass(frozen=True, slots=True)
class Optional:
    """A node whose target is left out when its value is missing or null."""

    value: "Node"


@dataclass(frozen=True, slots=True)
class Rest:
    """All fields of an object that no other leaf of the document reads."""

    source: Path
    leave_out: frozenset[str]


@dataclass(frozen=True, slots=True)
class CodeTable:
    """A translation of codes; `unknown` is "fail", "keep" or a node."""

    table: Mapping[str, Any] = field(hash=False)
    of: "Node"
    unknown: "Node | str"


Node = Const | Leaf | Fields | Items | Each | When | Default | Optional | Rest | CodeTable

# operator → (keys it needs, keys it may have); an object is an operator when exactly these match
OPERATORS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "each": (frozenset({"each", "do"}), frozenset({"as", "when"})),
    "when": (frozenset({"when", "then"}), frozenset({"else"})),
    "default": (frozenset({"value", "default"}), frozenset()),
    "optional": (frozenset({"optional"}), frozenset()),
    "const": (frozenset({"const"}), frozenset()),
    "rest": (frozenset({"rest"}), frozenset({"except"})),
    "code_table": (frozenset({"code_table"}), frozenset()),
    "object": (frozenset({"object"}), frozenset()),
}
# words that hardly ever name a real field: an object that has one but fits no operator is a slip
_TELLING = {"each", "code_table", "rest", "const", "optional"}


class Reader:
    """Reads one document; collects every problem instead of stopping at the first."""

    def __init__(self, roots: frozenset[str] = ROOTS) -> None:
        """Start with the names expressions may use."""
        self.roots = roots
        self.problems: list[Problem] = []
        self.count = 0
        self.used: set[tuple[str | int, ...]] = set()

    def read(self, document: Any, at: str, roots: frozenset[str], depth: int = 0) -> Node:
        """Return the node for a part of the document that stands at pointer `at`."""
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            if not self.problems or self.problems[-1].source != "size":
                self.problems.append(
                    Problem(
                        at,
                        say(
                            f"映射太大（最多 {MAX_NODES} 个节点、{MAX_DEPTH} 层）",
                            f"The mapping is too large ({MAX_NODES} nodes, {MAX_DEPTH} levels)",
                        ),
                        "size",
                    )
                )
            return Const(None)
        if isinstance(document, str):
            return self._text(document, at, roots)
        if isinstance(document, list):
            return Items(
                tuple(
                    self.read(node, f"{at}/{position}", roots, depth + 1)
                    for position, node in enumerate(document)
                )
            )
        if not isinstance(document, Mapping):
            return Const(document)
        operator = operator_of(document)
        if operator is not None:
            return self._operator(operator, document, at, roots, depth + 1)
        slips = sorted(_TELLING & document.keys())
        if slips:
            self._problem(
                at,
                f"“{slips[0]}”的写法不完整；如果它是目标字段名，请写在 object: 里面",
                f"“{slips[0]}” is incomplete; if it is a field's name, put it inside object:",
            )
        return self._fields(document, at, roots, depth)

    def _fields(
        self, document: Mapping[str, Any], at: str, roots: frozenset[str], depth: int
    ) -> Fields:
        return Fields(
            tuple(
                (name, self.read(node, f"{at}/{escape(name)}", roots, depth + 1))
                for name, node in document.items()
            ),
            tuple(f"/{escape(name)}" for name in document),
        )

    def _problem(self, at: str, zh: str, en: str) -> None:
        self.problems.append(Problem(at, say(zh, en)))

    def _note(self, expression: Expression) -> None:
        self.used.update(path.steps for path, _ in expression.paths())

    def _text(self, document: str, at: str, roots: frozenset[str]) -> Node:
        if "${" not in document:
            return Const(document)
        try:
            template = templates.parse(document, roots)
        except BadExpression as bad:
            self.problems.append(Problem(at, bad.say, document))
            return Const(None)
        for expression in template.expressions:
            self._note(expression)
        if not template.expressions:
            return Const(template.pieces[0])
        only = template.expressions[0].node if template.is_typed else None
        return Leaf(template, only if isinstance(only, Path) else None)

    def _expression(self, value: Any, at: str, roots: frozenset[str]) -> Expression | None:
        text = value.strip() if isinstance(value, str) else ""
        if text.startswith("${") and text.endswith("}"):
            text = text[2:-1].strip()
        try:
            if not text:
                raise BadExpression(say("这里需要一个表达式", "An expression belongs here"))
            expression = compile_expression(text, roots)
        except BadExpression as bad:
            self.problems.append(Problem(at, bad.say, text or None))
            return None
        self._note(expression)
        return expression

    def _operator(
        self, name: str, document: Mapping[str, Any], at: str, roots: frozenset[str], depth: int
    ) -> Node:
        if name == "const":
            return Const(document["const"])
        if name == "object":
            inner = document["object"]
            if isinstance(inner, Mapping):
                return self._fields(inner, at, roots, depth)
            self._problem(at, "object 里必须是对象", "object holds an object")
            return Const(None)
        if name == "optional":
            return Optional(self.read(document["optional"], at, roots, depth))
        if name == "default":
            return Default(
                self.read(document["value"], at, roots, depth),
                self.read(document["default"], at, roots, depth),
            )
        if name == "when":
            return self._when(document, at, roots, depth)
        if name == "each":
            return self._each(document, at, roots, depth)
        if name == "rest":
            return self._rest(document, at, roots)
        return self._code_table(document["code_table"], at, roots, depth)

    def _when(
        self, document: Mapping[str, Any], at: str, roots: frozenset[str], depth: int
    ) -> Node:
        test = self._expression(document["when"], at, roots)
        then = self.read(document["then"], at, roots, depth)
        otherwise = self.read(document["else"], at, roots, depth) if "else" in document else None
        return When(test, then, otherwise) if test else Const(None)

    def _each(
        self, document: Mapping[str, Any], at: str, roots: frozenset[str], depth: int
    ) -> Node:
        name = document.get("as", "item")
        if not isinstance(name, str) or not name.isidentifier() or name in self.roots - {"item"}:
            self._problem(at, "as 请用一个新的名字", "as takes a new, plain name")
            name = "item"
        source = self._expression(document["each"], at, roots)
        inner = roots | {name, "index"}
        test = self._expression(document["when"], at, inner) if "when" in document else None
        do = self.read(document["do"], f"{at}/0", inner, depth)
        return Each(source, name, test, do) if source else Const(None)

    def _rest(self, document: Mapping[str, Any], at: str, roots: frozenset[str]) -> Node:
        before = set(self.used)
        source = self._expression(document["rest"], at, roots)
        self.used = before  # naming the whole object here does not use its fields up
        leave_out = document.get("except", [])
        if not isinstance(leave_out, list) or not all(isinstance(one, str) for one in leave_out):
            self._problem(at, "except 是字段名的列表", "except is a list of field names")
            leave_out = []
        if source is None:
            return Const(None)
        if not isinstance(source.node, Path):
            self._problem(at, "rest 里只能写路径", "rest takes a path")
            return Const(None)
        return Rest(source.node, frozenset(leave_out))

    def _code_table(self, table: Any, at: str, roots: frozenset[str], depth: int) -> Node:
        good = (
            isinstance(table, Mapping)
            and {"table", "of"} <= table.keys() <= {"table", "of", "unknown"}
            and isinstance(table["table"], Mapping)
        )
        if not good:
            self._problem(
                at,
                "code_table 需要 table（对象）和 of",
                "code_table takes a table (an object) and of",
            )
            return Const(None)
        unknown = table.get("unknown", "fail")
        unknown = "fail" if unknown == "park" else unknown
        if unknown not in ("fail", "keep"):
            unknown = self.read(unknown, at, roots, depth)
        return CodeTable(dict(table["table"]), self.read(table["of"], at, roots, depth), unknown)


def operator_of(document: Mapping[str, Any]) -> str | None:
    """Return which operator an object is, or None for a plain object of target fields."""
    keys = frozenset(document)
    for name, (needed, allowed) in OPERATORS.items():
        if needed <= keys <= needed | allowed:
            return name
    return None
