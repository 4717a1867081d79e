"""Expressions: paths, a few exact functions, and CEL for the rest; compiled once, then total.

A path such as `event.data.order_no` never enters CEL: its value comes out exactly as it went in.
Inside a larger expression every path and every function call becomes one variable, so only what
is named crosses over, and a missing value is an error only where it is really needed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from connectors.engine import cel
from connectors.engine.budget import Budget, cost_of, over_budget
from connectors.engine.compiler import ROOTS, Compiler
from connectors.engine.findings import say
from connectors.engine.functions import FUNCTIONS, EvaluationError, Missing
from connectors.engine.nodes import Call, Cel, Literal, Node, Path
from connectors.engine.tokens import BadExpression, tokenize

__all__ = [
    "ROOTS",
    "BadExpression",
    "EvaluationError",
    "Expression",
    "Path",
    "compile",
    "condition",
]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    node: Node

    @property
    def is_path(self) -> bool:
        """Tell whether the expression is one plain path."""
        return isinstance(self.node, Path)

    def paths(self) -> list[tuple[Path, bool]]:
        """Return every path it reads and whether the value must be there."""
        return list(_paths(self.node, True))

    def evaluate(self, activation: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Return the value; raises EvaluationError with what was missing or wrong."""
        return _evaluate(self.node, activation, budget or Budget())


@lru_cache(maxsize=4096)
def compile_expression(
    text: str, roots: frozenset[str] = ROOTS, engine: str | None = None
) -> Expression:
    """Compile an expression (without the `${}` around it); raises BadExpression."""
    tokens = tokenize(text)
    compiler = Compiler(roots, engine or cel.engine_name())
    return Expression(text, compiler.node(tokens, 0, len(tokens), frozenset()))


compile = compile_expression  # noqa: A001 - expressions.compile(…) is how others say it


def condition(test: Any, activation: Mapping[str, Any], roots: frozenset[str] = ROOTS) -> bool:
    """Return what a condition (text, or a plain boolean) says; else an EvaluationError."""
    if isinstance(test, bool):
        return test
    if not isinstance(test, str):
        raise BadExpression(say("条件须是一个表达式", "A condition must be an expression"))
    source = test.strip()
    if source.startswith("${") and source.endswith("}"):
        source = source[2:-1]
    value = compile_expression(source, roots).evaluate(activation)
    if not isinstance(value, bool):
        raise EvaluationError(
            say("条件的结果必须是“是”或“否”", "A condition must come out as true or false")
        )
    return value


def resolve(path: Path, activation: Mapping[str, Any]) -> Any:
    """Return the value at a path; raises EvaluationError naming the part that is missing."""
    lost, value = _look_up(path, activation)
    if lost is not None:
        raise _missing(path, lost)
    return value


def _look_up(path: Path, activation: Mapping[str, Any]) -> tuple[int | None, Any]:
    """Return the value at a path behind None, or the position of the part that is missing."""
    value: Any = activation
    for position, step in enumerate(path.steps):
        try:
            # a text key in anything but an object, or a number in anything but a list, is absent
            if isinstance(step, str):
                value = value[step] if isinstance(value, dict | Mapping) else _ABSENT[step]
            else:
                value = value[step] if isinstance(value, list) else _ABSENT[str(step)]
        except LookupError:
            return position, None
    return None, value


_ABSENT: dict[str, Any] = {}


def _missing(path: Path, position: int) -> Missing:
    whole, lost = path.plain(), Path(path.steps[: position + 1]).plain()
    tail = say("", "")
    if whole != lost:
        tail = say(f"（要读取 {whole}）", f" (needed to read {whole})")
    return Missing(say(f"缺少 {lost}{tail['zh']}", f"{lost} is missing{tail['en']}"), whole)


def _paths(node: Node, needed: bool) -> Iterator[tuple[Path, bool]]:  # noqa: FBT001
    if isinstance(node, Path):
        yield node, needed
    elif isinstance(node, Call):
        for argument in node.arguments:
            yield from _paths(argument, needed and node.name not in ("coalesce", "has"))
    elif isinstance(node, Cel):
        for binding in node.bindings:
            yield from _paths(binding, needed)


def _evaluate(node: Node, activation: Mapping[str, Any], budget: Budget) -> Any:
    if isinstance(node, Path):
        return resolve(node, activation)
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Cel):
        return _evaluate_cel(node, activation, budget)
    if node.name == "has":
        return _attempt(node.arguments[0], activation, budget)[0]
    if node.name == "coalesce":
        for argument in node.arguments:
            there, value = _attempt(argument, activation, budget)
            if there and value is not None:
                return value
        return None
    values = [_evaluate(argument, activation, budget) for argument in node.arguments]
    budget.spend(1 + sum(map(cost_of, values)))
    try:
        return FUNCTIONS[node.name][0](*values)
    except EvaluationError as lost:
        first = node.arguments[0]
        if lost.path is None and isinstance(first, Path):
            raise type(lost)(lost.say, first.plain()) from lost
        raise


def _attempt(node: Node, activation: Mapping[str, Any], budget: Budget) -> tuple[bool, Any]:
    if isinstance(node, Path):
        # nobody reads the words for what is missing, and they take longer than the looking
        lost, value = _look_up(node, activation)
        return lost is None, value
    try:
        return True, _evaluate(node, activation, budget)
    except Missing:
        return False, None


def _evaluate_cel(node: Cel, activation: Mapping[str, Any], budget: Budget) -> Any:
    meter = cel.Meter()
    compared = 0
    values: dict[str, Any] = {}
    lost: dict[str, EvaluationError] = {}
    for number, binding in enumerate(node.bindings):
        try:
            before = meter.values
            values[f"_p{number}"] = meter.cross(_evaluate(binding, activation, budget))
            compared += meter.values - before if number in node.compared else 0
        except EvaluationError as missing:
            lost[f"_p{number}"] = missing
    meter.check(node.tokens, len(node.source), node.loops, compared, budget)
    try:
        return node.program(values)
    except cel.Unbound as unbound:
        raise lost.get(unbound.name) or over_budget() from unbound
