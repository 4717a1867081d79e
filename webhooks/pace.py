"""Pace: which targets answer slowly and which promptly, as far as this process has seen."""

import threading
import time
from collections.abc import Iterable

from kernel.http import Response
from webhooks import attempts
from webhooks.attempts import Batch
from webhooks.parcels import Parcel

SLOW_MS = 2000
UNSURE_MS = 200
KNOWN_SECONDS = 600


class Pace:
    """What this process learned about targets; forgotten after a while or by another answer."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._slow: dict[str, float] = {}
        self._prompt: dict[str, float] = {}
        self._lock = threading.Lock()

    def slow(self) -> frozenset[str]:
        """Name the endpoints that are slow at present, or have us wait just now.

        One that never answered promptly gets little patience: a few requests to it that hang would
        fill all the threads there are.
        """
        waited_for = attempts.flying.longer_than(UNSURE_MS / 1000)
        if not (self._slow or waited_for):
            return frozenset()
        hanging = attempts.flying.longer_than(SLOW_MS / 1000)
        now = time.monotonic()
        with self._lock:
            self._slow = {key: until for key, until in self._slow.items() if until > now}
            unsure = {one for one in waited_for if self._prompt.get(one, 0.0) <= now}
            return frozenset(self._slow) | unsure | hanging

    def learn(self, batch: Batch) -> None:
        """Note how long each target took."""
        until = time.monotonic() + KNOWN_SECONDS
        with self._lock:
            for tried in batch.tried:
                target = tried.parcel.target.id
                is_slow = tried.elapsed_ms > SLOW_MS
                known, other = (self._slow, self._prompt) if is_slow else (self._prompt, self._slow)
                other.pop(target, None)
                if is_slow or isinstance(tried.result, Response):
                    known[target] = until

    def prompt_first(self, parcels: Iterable[Parcel]) -> tuple[list[Parcel], list[Parcel]]:
        """Part what goes to targets known as prompt from the rest, which might hold it up."""
        now = time.monotonic()
        prompt: list[Parcel] = []
        rest: list[Parcel] = []
        for parcel in parcels:
            is_prompt = self._prompt.get(parcel.target.id, 0.0) > now
            (prompt if is_prompt else rest).append(parcel)
        return prompt, rest
