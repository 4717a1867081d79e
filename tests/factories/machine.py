"""How fast this machine is just now, so that a bound on time means the same on a busy one."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

QUIET_SECONDS = 0.020  # what `_work` takes on two quiet cores of 2026


def _work() -> None:
    total = 0
    for number in range(600_000):
        total += number & 7


def slowness() -> float:
    """Return how many times slower than a quiet machine this one is; never less than 1."""
    started = time.thread_time()
    _work()
    return max(1.0, (time.thread_time() - started) / QUIET_SECONDS)


def best(work: Callable[[], Result], tries: int = 3, enough: float = 0) -> tuple[float, Result]:
    """The least time of some tries, as a quiet machine would have taken it, and the result.

    A try that took less than `enough` on the machine as it is just now is the last one.
    """
    least = math.inf
    for _ in range(tries):
        started = time.thread_time()
        result = work()
        took = time.thread_time() - started
        if took < enough:
            return took, result
        least = min(least, took / slowness())
    return least, result
