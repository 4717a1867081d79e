"""Turns: whose letters are stored next, and whose events are left to a drain, when many send.

An organization that sends well above its share of what came in lately is loud. As long as others
send too, a few of its letters are stored at a time, after theirs; and once theirs have to wait, its
events are only stored, and a drain, which shares fairly, carries them out.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from webhooks.letters import Letter

MOST_TOGETHER = 200
LOUD_TOGETHER = 8  # of the loud, beside the others'
LOUD_STORED_TOGETHER = 32  # when they are only stored
TIMES = 1.5  # as much as a fair share
TURN_SECONDS = 0.5
FEW = 20  # events in a second make nobody loud
CROWDED_SECONDS = 0.02  # a quiet sender's wait from which on the loud are left to a drain
_SLOWLY = 0.2  # how much a new wait weighs


class Turns:
    """What came in lately, by organization; used by one thread alone."""

    def __init__(self, weight_of: Callable[[str], int]) -> None:
        """Know of nobody yet."""
        self._weight_of = weight_of
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()  # in the half second before this one
        self._loud: frozenset[str] = frozenset()
        self._turned_at = time.monotonic()
        self._wait = 0.0

    def pick(self, waiting: Sequence[Letter]) -> tuple[list[Letter], list[Letter]]:
        """Divide what waits into what is stored now and what stays, each in its order."""
        self._turn()
        if not self._loud:
            return list(waiting[:MOST_TOGETHER]), list(waiting[MOST_TOGETHER:])
        room = LOUD_STORED_TOGETHER if self.is_crowded() else LOUD_TOGETHER
        now: list[Letter] = []
        later: list[Letter] = []
        for letter in waiting:
            is_loud = letter.arrival.organization_id in self._loud
            if len(now) >= MOST_TOGETHER or (is_loud and room <= 0):
                later.append(letter)
                continue
            room -= is_loud
            now.append(letter)
        return now, later

    def deferred(self, letters: Sequence[Letter]) -> frozenset[str]:
        """Name the organizations whose events are only stored now."""
        tenants = {letter.arrival.organization_id for letter in letters}
        return self._loud & tenants if self.is_crowded() else frozenset()

    def is_crowded(self) -> bool:
        """Tell whether those who do not send much have to wait."""
        return bool(self._loud) and self._wait > CROWDED_SECONDS

    def stored(self, letters: Sequence[Letter]) -> None:
        """Note what was stored and how long the quiet had waited for it."""
        now = time.monotonic()
        for letter in letters:
            tenant = letter.arrival.organization_id
            self._counts[tenant] += len(letter.arrival.events)
            if tenant not in self._loud:
                self._wait += _SLOWLY * (now - letter.posted_at - self._wait)

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._turned_at < TURN_SECONDS:
            return
        if self._counts.keys() <= self._loud:
            self._wait = 0.0  # there is nobody who waits
        is_stale = now - self._turned_at > 2 * TURN_SECONDS
        lately = self._counts if is_stale else self._counts + self._before
        self._loud = _loud(lately, self._weight_of)
        self._counts, self._before, self._turned_at = Counter(), self._counts, now


def _loud(counts: Counter[str], weight_of: Callable[[str], int]) -> frozenset[str]:
    total = sum(counts.values())
    if len(counts) < 2 or total < FEW:
        return frozenset()
    weights = {tenant: weight_of(tenant) for tenant in counts}
    fair = TIMES * total / sum(weights.values())
    return frozenset(t for t, count in counts.items() if count > fair * weights[t])
