"""Mapping: a structural document in, a value out; exact, total, and bounded in steps and size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from connectors.engine.budget import Budget
from connectors.engine.expressions import ROOTS, EvaluationError, Expression, resolve
from connectors.engine.findings import EngineError, Problem, say
from connectors.engine.functions import Missing, kind, shown, to_text
from connectors.engine.mapping_check import check_mapping, source_schema
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

__all__ = [
    "MappingError",
    "Plan",
    "apply",
    "check_mapping",
    "prepare",
    "prepare_once",
    "source_schema",
]

MAX_STEPS = 120_000
MAX_SIZE = 1_000_000  # characters and values in the result
MAX_PROBLEMS = 20
OMIT = object()
TOO_MANY = say("映射步骤太多，已停止", "The mapping takes too many steps")


class MappingError(EngineError):
    """The mapping could not be carried out; `problems` name every target that failed."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems; the sentence is the first one's."""
        super().__init__(problems[0].say)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Plan:
    """A mapping that was read once and can be carried out many times."""

    node: Node
    used: frozenset[tuple[str | int, ...]]

    def apply(
        self,
        activation: Mapping[str, Any],
        max_steps: int = MAX_STEPS,
        max_size: int = MAX_SIZE,
    ) -> Any:
        """Return the mapped value; raises MappingError."""
        run = _Run(self.used, max_steps, max_size)
        try:
            value = run.build(self.node, activation, "")
        except _Exhausted:
            value = None
        if run.problems:
            raise MappingError(run.problems)
        return None if value is OMIT else value


def prepare(document: Any, roots: frozenset[str] = ROOTS) -> Plan:
    """Read a mapping document; raises MappingError with every mistake in it."""
    reader = Reader(roots)
    node = reader.read(document, "", roots)
    if reader.problems:
        raise MappingError(reader.problems)
    return Plan(node, frozenset(reader.used))


# A manifest's documents live as long as the process, so their identity is a safe key; the
# document is kept beside its plan, so that its id cannot be taken over by another one.
_PLANS: dict[int, tuple[Any, Plan]] = {}


def prepare_once(document: Any) -> Plan:
    """Return the plan of a document that lives long and never changes, read only once."""
    known = _PLANS.get(id(document))
    if known is not None and known[0] is document:
        return known[1]
    plan = prepare(document)
    if len(_PLANS) < 4096:
        _PLANS[id(document)] = (document, plan)
    return plan


def apply(document: Any, activation: Mapping[str, Any], roots: frozenset[str] = ROOTS) -> Any:
    """Read and carry out a mapping document; raises MappingError."""
    return prepare(document, roots).apply(activation)


class _Exhausted(Exception):  # noqa: N818 - internal: a budget is used up
    pass


class _Run:
    """One execution: counts down its budgets and collects problems by target."""

    def __init__(
        self, used: frozenset[tuple[str | int, ...]], max_steps: int, max_size: int
    ) -> None:
        self.used, self.steps, self.size = used, max_steps, max_size
        self.budget = Budget()
        self.problems: list[Problem] = []

    def build(self, node: Node, activation: Mapping[str, Any], at: str) -> Any:
        self.steps -= 1
        if self.steps < 0:
            self._exhausted(at, TOO_MANY)
        return self._kinds[type(node)](self, node, activation, at)

    def _const(self, node: Const, activation: Mapping[str, Any], at: str) -> Any:  # noqa: ARG002
        return self._sized(node.value, at)

    def _leaf(self, node: Leaf, activation: Mapping[str, Any], at: str) -> Any:
        try:
            if node.path is not None:  # most leaves are a plain path, and lists have thousands
                value: Any = activation
                for step in node.path.steps:
                    if type(value) is dict:  # noqa: SIM114 - a type checker reads no more
                        value = value[step]
                    elif type(value) is list and isinstance(step, int):
                        value = value[step]
                    else:
                        value = resolve(node.path, activation)
                        break
            else:
                value = node.template.evaluate(activation, self.budget)
        except LookupError:
            return self._absent(node, activation, at)
        except EvaluationError as lost:
            return self._lost(at, lost)
        if type(value) is str:
            self.size -= 1 + len(value)
            if self.size >= 0:
                return value
        return self._sized(value, at)

    def _absent(self, node: Leaf, activation: Mapping[str, Any], at: str) -> Any:
        """Say in words what a path leads past."""
        assert node.path is not None
        try:
            return self._sized(resolve(node.path, activation), at)
        except EvaluationError as lost:
            return self._lost(at, lost)

    def _items(self, node: Items, activation: Mapping[str, Any], at: str) -> Any:
        built = (
            self.build(item, activation, f"{at}/{position}")
            for position, item in enumerate(node.items)
        )
        return [value for value in built if value is not OMIT]

    def _step(self, at: str) -> None:
        self.steps -= 1
        if self.steps < 0:
            self._exhausted(at, TOO_MANY)

    def _sized(self, value: Any, at: str) -> Any:
        if not isinstance(value, dict | list):
            self.size -= 1 + (len(value) if isinstance(value, str) else 0)
            if self.size >= 0:
                return value
        waiting = [value]
        while waiting:
            one = waiting.pop()
            self.size -= 1 + (len(one) if isinstance(one, str) else 0)
            if self.size < 0:
                self._exhausted(at, say("映射结果超过 1 MB", "The mapping's result is over 1 MB"))
            if isinstance(one, list):
                waiting.extend(one)
            elif isinstance(one, dict):
                waiting.extend(one.values())
        return value

    def _exhausted(self, at: str, sentence: dict[str, str]) -> None:
        self.problems.append(Problem(at, sentence))
        raise _Exhausted

    def _lost(self, at: str, lost: EvaluationError) -> Any:
        self.steps -= 3  # to miss something takes as long as to find several
        self.problems.append(Problem(at, lost.say, lost.path, isinstance(lost, Missing)))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Exhausted
        return OMIT

    def _fields(self, node: Fields, activation: Mapping[str, Any], at: str) -> Any:
        out: dict[str, Any] = {}
        for (name, child), end in zip(node.fields, node.ends, strict=True):
            value = self.build(child, activation, at + end)
            self.size -= len(name)
            if value is not OMIT:
                out[name] = value
        return out

    def _truth(self, test: Expression, activation: Mapping[str, Any], at: str) -> bool | None:
        try:
            value = test.evaluate(activation, self.budget)
            if isinstance(value, bool):
                return value
            raise EvaluationError(
                say(
                    f"条件“{test.text}”的结果不是“是”或“否”",
                    f"The condition “{test.text}” is neither true nor false",
                )
            )
        except EvaluationError as lost:
            self._lost(at, lost)
            return None

    def _each(self, node: Each, activation: Mapping[str, Any], at: str) -> Any:
        try:
            entries = node.source.evaluate(activation, self.budget)
            if not isinstance(entries, list):
                raise EvaluationError(
                    say(
                        f"{node.source.text} 不是列表，而是 {kind(entries)}",
                        f"{node.source.text} is not a list but {kind(entries)}",
                    ),
                    node.source.text,
                )
        except EvaluationError as lost:
            return self._lost(at, lost)
        out: list[Any] = []
        inner = dict(activation)  # one for all entries: nothing that is built holds on to it
        for index, entry in enumerate(entries):
            inner[node.name], inner["index"] = entry, index
            self._step(at)
            here = f"{at}/{index}"
            if node.test is not None and not self._truth(node.test, inner, here):
                continue
            value = self.build(node.do, inner, here)
            if value is not OMIT:
                out.append(value)
        return out

    def _when(self, node: When, activation: Mapping[str, Any], at: str) -> Any:
        truth = self._truth(node.test, activation, at)
        if truth is None:
            return OMIT
        if truth:
            return self.build(node.then, activation, at)
        return OMIT if node.otherwise is None else self.build(node.otherwise, activation, at)

    def _softly(self, node: Default | Optional, activation: Mapping[str, Any], at: str) -> Any:
        known = len(self.problems)
        value = self.build(node.value, activation, at)
        fresh = self.problems[known:]
        if fresh and all(problem.is_missing for problem in fresh):
            # Only absence is forgiven; a value that is there but wrong stays an error.
            del self.problems[known:]
            value = None
        elif fresh:
            return OMIT
        if value is None or value is OMIT:
            if isinstance(node, Optional):
                return OMIT
            return self.build(node.default, activation, at)
        return value

    def _rest(self, node: Rest, activation: Mapping[str, Any], at: str) -> Any:
        try:
            source = resolve(node.source, activation)
            if not isinstance(source, Mapping):
                raise EvaluationError(
                    say(
                        f"{node.source.plain()} 不是对象", f"{node.source.plain()} is not an object"
                    )
                )
            self.budget.spend(len(source) // 3)
        except EvaluationError as lost:
            return self._lost(at, lost)
        depth = len(node.source.steps)
        taken = {
            steps[depth]
            for steps in self.used
            if len(steps) > depth and steps[:depth] == node.source.steps
        }
        left = {
            name: value
            for name, value in source.items()
            if name not in taken and name not in node.leave_out
        }
        return self._sized(left, at)

    def _code_table(self, node: CodeTable, activation: Mapping[str, Any], at: str) -> Any:
        known = len(self.problems)
        value = self.build(node.of, activation, at)
        if len(self.problems) > known or value is OMIT:
            return OMIT
        try:
            code = to_text(value)
        except EvaluationError as lost:
            return self._lost(at, lost)
        if code in node.table:
            return self._sized(node.table[code], at)
        if node.unknown == "keep":
            return value
        if not isinstance(node.unknown, str):
            return self.build(node.unknown, activation, at)
        return self._lost(
            at,
            EvaluationError(
                say(
                    f"对照表里没有 {shown(code)}，请补充一行",
                    f"The code table has no row for {shown(code)}; please add one",
                )
            ),
        )

    # how each kind of node is built
    _kinds: ClassVar[dict[type, Callable[..., Any]]] = {
        Const: _const,
        Leaf: _leaf,
        Fields: _fields,
        Items: _items,
        Each: _each,
        When: _when,
        Default: _softly,
        Optional: _softly,
        Rest: _rest,
        CodeTable: _code_table,
    }
