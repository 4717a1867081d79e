"""The arithmetic of a budget: what may go now, how long to wait, whose turn is when. Pure.

A level is one moment, when the budget is whole again. Each call moves it on by an interval, and a
call may go while it is no further away than `burst` intervals.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.engine.call_budgets import CallBudget, Told

GRID_SECONDS = 0.25  # those that wait come back together, so that one look serves several
LONGEST_QUEUE_SECONDS = 3_600.0
LONGEST_BLOCK_SECONDS = 86_400.0
_LITTLE = 1e-6


@dataclass(slots=True)
class Level:
    """How a budget stands; all moments are seconds since 1970 by the store's clock."""

    budget: CallBudget
    full_at: float
    blocked_until: float = 0.0
    queues: dict[str, float] = field(default_factory=dict)
    seats: dict[str, list[float]] = field(default_factory=dict)

    def mend(self, now: float) -> None:
        """Let a clock that was set back hold nobody up: a budget is empty, and never less."""
        self.full_at = min(self.full_at, now + self.budget.burst * self.budget.interval_seconds)
        self.blocked_until = min(self.blocked_until, now + LONGEST_BLOCK_SECONDS)

    def ready(self, now: float) -> int:
        """Return how many calls may go at once now."""
        if self.blocked_until > now:
            return 0
        room = self.budget.burst * self.budget.interval_seconds - max(0.0, self.full_at - now)
        return max(0, math.floor(room / self.budget.interval_seconds + _LITTLE))

    def spend(self, count: int, now: float) -> None:
        """Count calls that go out now."""
        self.full_at = max(self.full_at, now) + count * self.budget.interval_seconds

    def give_back(self, count: int) -> None:
        """Take back what was counted for calls that did not go out after all."""
        self.full_at -= count * self.budget.interval_seconds

    def free_at(self, count: int, now: float) -> float:
        """Return when so many may go, if nobody else comes before."""
        interval = self.budget.interval_seconds
        at = max(self.full_at, now) - (self.budget.burst - count) * interval
        return max(at, now, self.blocked_until)

    def place(self, flow: str, count: int, now: float) -> float:
        """Return when a call of a flow is worth trying again, and move the flow's queue on.

        Each flow that waits gets an equal share, however many calls of it wait.
        """
        self.queues = {name: until for name, until in self.queues.items() if until > now}
        flows = len({*self.queues, flow})
        at = max(self.queues.get(flow, 0.0), self.free_at(count, now))
        at = min(at, max(now, self.blocked_until) + LONGEST_QUEUE_SECONDS)
        self.queues[flow] = at + count * self.budget.interval_seconds * flows
        return max(math.ceil(at / GRID_SECONDS) * GRID_SECONDS, now + 0.01)

    # --- calls in the air

    def take_seats(self, holder: str, wanted: int, until: float, now: float) -> int:
        """Give a holder up to so many of the calls that may be in the air; returns how many."""
        assert self.budget.parallel is not None
        self.seats = {name: seat for name, seat in self.seats.items() if seat[1] > now}
        taken = sum(int(seat[0]) for seat in self.seats.values())
        got = max(0, min(wanted, self.budget.parallel - taken))
        if got:
            self.seats[holder] = [got, until]
        return got

    def leave_seats(self, holder: str) -> None:
        """Take back what a holder had in the air."""
        self.seats = {name: seat for name, seat in self.seats.items() if name != holder}

    # --- what the app says

    def heed(self, said: Told, now: float) -> bool:
        """Believe an app that says there is less left than we count; True when that is news."""
        changed = False
        if said.retry_seconds:
            changed |= self._block(said.retry_seconds, now)
        if said.remaining == 0 and said.reset_seconds:
            changed |= self._block(said.reset_seconds, now)
        elif said.remaining is not None and said.remaining < self.ready(now):
            over = self.ready(now) - said.remaining
            self.spend(over, now)
            changed = True
        return changed

    def _block(self, seconds: float, now: float) -> bool:
        until = now + min(seconds, LONGEST_BLOCK_SECONDS)
        # a second more or less is no news worth a statement
        if until < self.blocked_until + 1:
            return False
        self.blocked_until = until
        return True


def waiting(queues: Mapping[str, float], now: float) -> int:
    """Count the flows that have something waiting."""
    return sum(1 for until in queues.values() if until > now)
