"""Turns: whose letters are stored next, and whose events are left to a drain, when many send.

An organization that sends well above its share of what came in lately is loud. As long as others
send too, a few of its letters are stored at a time, after theirs; and once theirs have to wait,
what it sends beyond a fair share is only stored, and a drain carries it out.
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
CROWDED_SECONDS = 0.02  # the wait of the others from which on the loud are left to a drain
FEW_WAITS = 3  # say nothing


class Turns:
    """What came in lately, by organization; used by one thread alone."""

    def __init__(self, weight_of: Callable[[str], int]) -> None:
        """Know of nobody yet."""
        self._weight_of = weight_of
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()  # in the half second before this one
        self._loud: frozenset[str] = frozenset()
        self._turned_at = time.monotonic()
        self._waits: list[float] = []  # of those who are not loud, in this half second
        self._is_crowded = False

    def pick(self, waiting: Sequence[Letter]) -> tuple[list[Letter], list[Letter]]:
        """Divide what waits into what is stored now and what stays, each in its order."""
        self._turn()
        if not self._loud:
            return list(waiting[:MOST_TOGETHER]), list(waiting[MOST_TOGETHER:])
        room = LOUD_STORED_TOGETHER if self._is_crowded else LOUD_TOGETHER
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

    def deferred(self, letters: Sequence[Letter]) -> frozenset[int]:
        """Say which of these letters are only stored now, by their places.

        The loud have as many carried out at once as anybody else.
        """
        if not self._is_crowded:
            return frozenset()
        found: set[int] = set()
        came = Counter(letter.arrival.organization_id for letter in letters)
        quiet = [count for tenant, count in came.items() if tenant not in self._loud]
        fair = max(1, sum(quiet) // max(1, len(quiet)))
        straight: Counter[str] = Counter()
        for place, letter in enumerate(letters):
            tenant = letter.arrival.organization_id
            if tenant in self._loud:
                straight[tenant] += 1
                if straight[tenant] > fair:
                    found.add(place)
        return frozenset(found)

    def stored(self, letters: Sequence[Letter]) -> None:
        """Note what was stored and how long the quiet had waited for it."""
        now = time.monotonic()
        for letter in letters:
            tenant = letter.arrival.organization_id
            self._counts[tenant] += len(letter.arrival.events)
            if tenant not in self._loud:
                self._waits.append(now - letter.posted_at)

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._turned_at < TURN_SECONDS:
            return
        waits, self._waits = self._waits, []
        self._is_crowded = len(waits) >= FEW_WAITS and sum(waits) / len(waits) > CROWDED_SECONDS
        is_stale = now - self._turned_at > 2 * TURN_SECONDS
        lately = self._counts if is_stale else self._counts + self._before
        self._loud = _loud(lately, self._weight_of)
        self._is_crowded = self._is_crowded and bool(self._loud)
        self._counts, self._before, self._turned_at = Counter(), self._counts, now


def _loud(counts: Counter[str], weight_of: Callable[[str], int]) -> frozenset[str]:
    total = sum(counts.values())
    if len(counts) < 2 or total < FEW:
        return frozenset()
    weights = {tenant: weight_of(tenant) for tenant in counts}
    fair = TIMES * total / sum(weights.values())
    return frozenset(t for t, count in counts.items() if count > fair * weights[t])
