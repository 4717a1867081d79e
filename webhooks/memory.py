"""Memory: what was looked up a moment ago and may be a few seconds old."""

import threading
import time
from collections.abc import Callable
from typing import Any


class NotInMemory(Exception):  # noqa: N818 - no error: the caller asks again where it may wait
    """What was asked for has to be read from the store."""


class Memory:
    """Values by key, each good for some seconds; None is never kept."""

    def __init__(self, seconds: float, most: int) -> None:
        """Keep at most `most` values for `seconds` each."""
        self._seconds, self._most = seconds, most
        self._found: dict[Any, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, look_up: Callable[[], Any], *, from_memory: bool = False) -> Any:
        """Return the value at hand, else look it up; NotInMemory when only the first is wanted."""
        entry = self._found.get(key)
        if entry is not None and entry[0] > time.monotonic():
            return entry[1]
        if from_memory:
            raise NotInMemory
        value = look_up()
        with self._lock:
            if len(self._found) >= self._most:
                self._found.clear()
            if value is not None:
                self._found[key] = (time.monotonic() + self._seconds, value)
        return value

    def peek(self, key: Any) -> Any:
        """Return the value at hand, however old, or None."""
        entry = self._found.get(key)
        return None if entry is None else entry[1]

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()
