"""Youth: a process that took another's place has little under way at once for a while.

What is sent and not written down when a process dies goes out again. Whoever died a moment ago may
die again, and whoever has lived for a while is likely to live as long again: so where one is gone
without a word its successor starts with one request at a time, and ever more as it ages. After a
start in peace there is no such bound.
"""

import os
import threading
import time
from dataclasses import dataclass

# Until this age one at a time; then twice as many every second, from GROWN_SECONDS on no bound.
ONE_AT_A_TIME_SECONDS = 3.0
GROWN_SECONDS = 11.0
# A target that takes longer holds nobody up: what is under way to it is no longer counted.
PATIENCE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Share:
    """Leave to send so many; given back once what came of them is written down."""

    size: int
    key: int | None = None

    def give_back(self) -> None:
        """Let others send."""
        if self.key is not None:
            with _air.changed:
                _air.under_way.pop(self.key, None)
                _air.changed.notify_all()


class _Air:
    """What this process has sent and not written down: key → until when it counts, and how many."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.under_way: dict[int, tuple[float, int]] = {}
        self.keys = 0

    def take(self, wanted: int) -> Share:
        with self.changed:
            while True:
                now = time.monotonic()
                counted = {k: one for k, one in self.under_way.items() if one[0] > now}
                self.under_way = counted
                room = _bound() - sum(size for _, size in counted.values())
                if room > 0:
                    break
                self.changed.wait(min(until for until, _ in counted.values()) - now)
            self.keys += 1
            share = Share(min(wanted, room), self.keys)
            self.under_way[self.keys] = (now + PATIENCE_SECONDS, share.size)
            return share


_air = _Air()
_born: float | None = None  # a process that never began is of no age, like a command


def _forget() -> None:
    """Drop what a fork must not share."""
    global _air, _born
    _air, _born = _Air(), None


os.register_at_fork(after_in_child=_forget)


def begin() -> None:
    """Be young: this process takes the place of one that is gone without a word."""
    global _born
    _born = time.monotonic()


def age_seconds() -> float:
    """Return how long this process has been carrying things out."""
    return float("inf") if _born is None else time.monotonic() - _born


def is_young() -> bool:
    """Tell whether there is a bound on what this process may have under way."""
    return age_seconds() < GROWN_SECONDS


def _bound() -> int:
    if not is_young():
        return 1_000_000
    return int(2 ** max(0.0, age_seconds() - ONE_AT_A_TIME_SECONDS))


def take_share(wanted: int) -> Share:
    """Wait until something may be sent, and return leave for some of what is wanted."""
    return _air.take(wanted) if wanted and is_young() else Share(wanted)
