"""The two CEL engines behind one function: plain JSON in, plain JSON out, both capped."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from connectors.engine.budget import Budget, over_budget
from connectors.engine.findings import say
from connectors.engine.functions import EvaluationError
from connectors.engine.tokens import BadExpression

MAX_LIST = 500
MAX_VALUES = 5_000
MAX_ITERATIONS = 5_000
MAX_WORK = 20_000_000  # characters an expression may touch: its text × its texts × its loops

Program = Callable[[Mapping[str, Any]], Any]
_UNBOUND = re.compile(r"\b_p[0-9]+\b")


class Unbound(Exception):  # noqa: N818 - not a fault: the caller knows why the value is absent
    """The engine asked for a variable that could not be bound; `name` says which."""

    def __init__(self, name: str) -> None:
        """Keep the variable's name."""
        self.name = name
        super().__init__(name)


class Meter:
    """Counts what crosses into an expression: values, characters and the longest list."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.values = self.longest_text = self.longest_list = 0

    def cross(self, value: Any) -> Any:
        """Return a value as the engines take it: exact, or as text where a double would round."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise over_budget()
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**63 else str(value)
        if isinstance(value, float):
            value = Decimal(repr(value))
        if isinstance(value, Decimal):
            near = float(value)
            return near if Decimal(repr(near)) == value else format(value, "f")
        if isinstance(value, list):
            self.longest_list = max(self.longest_list, len(value))
            if len(value) > MAX_LIST:
                raise over_budget()
            return [self.cross(one) for one in value]
        self.longest_list = max(self.longest_list, len(value))
        return {self._text(str(key)): self.cross(one) for key, one in value.items()}

    def _text(self, value: str) -> str:
        # The C++ engine would read a text only up to its first NUL, and has no word for half a
        # surrogate pair: "paid" with a tail must not pass for it.
        if "\0" in value or not (value.isascii() or _is_unicode(value)):
            raise EvaluationError(
                say("文本里有不能计算的字符", "The text holds a character that cannot be used here")
            )
        self.longest_text = max(self.longest_text, len(value))
        return value

    def check(self, tokens: int, length: int, loops: int, compared: int, budget: Budget) -> None:
        """Refuse before running what could take longer than a blink.

        `compared` values may be looked through in every round of a loop, by `in` or `==`.
        """
        rounds = max(1, self.longest_list) ** loops
        work = rounds * tokens * (self.longest_text + length)
        if rounds > MAX_ITERATIONS or work > MAX_WORK:
            raise over_budget()
        looping = rounds * tokens if loops else 0
        budget.spend(15 + self.values + looping + work // 1_000 + rounds * compared // 8)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def come_back(value: Any, left: list[int]) -> Any:
    """Return an engine's result as exact JSON values; `left` holds the remaining budget."""
    left[0] -= 1 + (len(value) if isinstance(value, str) else 0)
    if left[0] < 0:
        raise over_budget()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        number = Decimal(repr(value))
        if not number.is_finite():
            raise EvaluationError(say("结果不是有限的数字", "The result is not a finite number"))
        return number
    if isinstance(value, list):
        return [come_back(one, left) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        # sorted: the engine keeps no order, and has another one in every process
        return {key: come_back(value[key], left) for key in sorted(value)}
    raise EvaluationError(
        say("结果不能写成 JSON，时间请用 date()", "The result is not JSON; write times with date()")
    )


def failed(message: str) -> Exception:
    """Return the exception for an engine's own error text."""
    name = _UNBOUND.search(message)
    if name and ("found in Activation" in message or "undeclared" in message):
        return Unbound(name[0])
    if "budget" in message:
        return over_budget()
    for needle, zh, en in (
        (
            "no matching overload",
            "两边的类型不能这样一起用",
            "these kinds of value cannot be combined",
        ),
        (
            "No matching overload",
            "两边的类型不能这样一起用",
            "these kinds of value cannot be combined",
        ),
        ("divide by zero", "除数是零", "it divides by zero"),
        ("overflow", "整数太大", "a whole number is too large"),
        ("no such", "对象里没有这一项", "an object lacks that entry"),
        ("not found in map", "对象里没有这一项", "an object lacks that entry"),
        ("regular expression", "正则表达式不合法", "the pattern is not valid"),
    ):
        if needle in message:
            return EvaluationError(say(f"无法计算：{zh}", f"It cannot be computed: {en}"))
    detail = message.splitlines()[0][:160] if message else "?"
    return EvaluationError(say(f"无法计算：{detail}", f"It cannot be computed: {detail}"))


def refused(message: str) -> BadExpression:
    if "recursion" in message:
        return BadExpression(
            say("表达式太深，请拆成几步", "The expression is too deep; split it into steps")
        )
    if "overload" in message:
        return BadExpression(
            say("两边的类型不能这样一起用", "These kinds of value cannot be combined")
        )
    detail = message.splitlines()[0].removeprefix("INVALID_ARGUMENT: ")[:160] if message else "?"
    return BadExpression(
        say(f"表达式有语法错误：{detail}", f"The expression has a mistake: {detail}")
    )


# engine → the module that holds its `compile_program`; a module is loaded when it is first chosen
ENGINES = {
    "cel-expr-python": "connectors.engine.cel_native",
    "cel-python": "connectors.engine.cel_pure",
}


@cache
def engine_name() -> str:
    """Return the engine in use: Google's own where its wheel exists, else the pure one."""
    return "cel-expr-python" if find_spec("cel_expr_python") else "cel-python"


def compile_program(engine: str, source: str, count: int) -> Program:
    """Compile CEL text over the variables _p0 … _p(count-1); raises BadExpression."""
    program: Program = import_module(ENGINES[engine]).compile_program(source, count)
    return program
