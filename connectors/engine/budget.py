"""The work an expression or a whole mapping may cause, counted before it is done."""

from decimal import Decimal
from typing import Any

from connectors.engine.findings import say
from connectors.engine.functions import EvaluationError

MAX_MICROSECONDS = 100_000  # what the work would take on a small machine


def over_budget() -> EvaluationError:
    """Return the refusal of what would take too long or too much."""
    return EvaluationError(
        say(
            "这里要处理的数据太多，请改用 each 逐条处理，或把事件拆小",
            "This would work through too much data; use each instead, or send smaller events",
        )
    )


class Budget:
    """A stock of microseconds; whoever is about to work takes from it first."""

    def __init__(self, microseconds: int = MAX_MICROSECONDS) -> None:
        """Start full."""
        self.left = microseconds

    def spend(self, microseconds: int) -> None:
        """Take from the stock; raises EvaluationError when it does not last."""
        self.left -= microseconds
        if self.left < 0:
            raise over_budget()


def cost_of(value: Any) -> int:
    """Return what one of our functions needs for an argument, in microseconds."""
    if isinstance(value, str):
        return len(value) // 1_000
    if isinstance(value, Decimal):
        _, digits, exponent = value.as_tuple()
        return (len(digits) + abs(int(exponent))) // 200
    if isinstance(value, int):
        return value.bit_length() ** 2 // 1_000_000  # digits come one by one
    return len(value) // 5 if isinstance(value, list) else 0
