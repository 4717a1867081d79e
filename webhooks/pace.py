"""Pace: which targets answer slowly, as far as this process has seen."""

import threading
import time

from webhooks.attempts import Batch

SLOW_MS = 2000
SLOW_FOR_SECONDS = 600


class Pace:
    """What this process learned about slow targets; forgotten after a while or a prompt answer."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def slow(self) -> frozenset[str]:
        """Name the endpoints that are slow at present."""
        if not self._until:
            return frozenset()
        now = time.monotonic()
        with self._lock:
            self._until = {key: until for key, until in self._until.items() if until > now}
            return frozenset(self._until)

    def learn(self, batch: Batch) -> None:
        """Note how long each target took."""
        until = time.monotonic() + SLOW_FOR_SECONDS
        with self._lock:
            for tried in batch.tried:
                if tried.elapsed_ms > SLOW_MS:
                    self._until[tried.parcel.target.id] = until
                else:
                    self._until.pop(tried.parcel.target.id, None)
