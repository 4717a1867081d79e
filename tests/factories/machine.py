"""How fast this machine is just now, so that a bound on time means the same on a busy one."""

import time

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
