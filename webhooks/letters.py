"""Letters: what a request left at the inbox, and how it is told what became of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from webhooks.events import Accepted, Arrival

# Told what became of several arrivals at once: the answers, or why there are none.
Answer = list[Accepted] | Exception


@dataclass(frozen=True, slots=True)
class Letter:
    """One request's events; `tell` is called from the storing thread and must not wait."""

    arrival: Arrival
    tell: Callable[[Answer], None]
    posted_at: float = field(default_factory=time.monotonic)
