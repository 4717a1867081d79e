"""Waking: whoever waits for a budget waits less than until the next sweep, if all goes well.

A thread of this process rings the bell at the next of the moments it was told. The rows are the
truth: what nobody rings for is found by the sweep.
"""

import os
import threading
import time

from kernel import queue

DRAIN = "webhooks.drain"
LONGEST_SECONDS = 60.0  # what is further away is left to the sweep

_changed = threading.Condition()
_moments: list[float] = []  # by time.monotonic()
_thread: threading.Thread | None = None


def _forget() -> None:
    """Start without the parent's thread after a fork."""
    global _changed, _thread
    _changed, _thread = threading.Condition(), None
    _moments.clear()


os.register_at_fork(after_in_child=_forget)


def ring_in(seconds: float) -> None:
    """Ring for the drain in so many seconds."""
    global _thread
    if seconds > LONGEST_SECONDS:
        return
    at = time.monotonic() + max(0.0, seconds)
    with _changed:
        if any(at - 0.05 <= known <= at + 0.02 for known in _moments):
            return
        _moments.append(at)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="budget-bell", daemon=True)
            _thread.start()
        _changed.notify()


def _run() -> None:
    while True:
        with _changed:
            while not _moments or min(_moments) > time.monotonic():
                left = min(_moments) - time.monotonic() if _moments else None
                _changed.wait(left)
            now = time.monotonic()
            _moments[:] = [at for at in _moments if at > now]
        queue.nudge(None, DRAIN)
