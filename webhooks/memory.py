"""Memory: what was looked up a moment ago and may be a few seconds old."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class NotInMemory(Exception):  # noqa: N818 - no error: the caller asks again where it may wait
    """What was asked for has to be read from the store."""


class Memory:
    """Values by key, each good for some seconds; None is never kept.

    Of many who ask for the same at once one looks it up and the others wait for what it finds: a
    hundred requests at the moment a value grows old would take every connection to the store.
    """

    def __init__(self, seconds: float, most: int) -> None:
        """Keep at most `most` values for `seconds` each."""
        self._seconds, self._most = seconds, most
        self._found: dict[Any, tuple[float, Any]] = {}
        self._under_way: dict[Any, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, look_up: Callable[[], Any], *, from_memory: bool = False) -> Any:
        """Return the value at hand, else look it up; NotInMemory when only the first is wanted."""
        entry = self._found.get(key)
        if entry is not None and entry[0] > time.monotonic():
            return entry[1]
        if from_memory:
            raise NotInMemory
        with self._lock:
            other = self._under_way.get(key)
            mine: Future[Any] = Future()
            if other is None:
                self._under_way[key] = mine
        return self._look_up(key, look_up, mine) if other is None else other.result()

    def _look_up(self, key: Any, look_up: Callable[[], Any], mine: "Future[Any]") -> Any:
        """Look up for all who wait; whoever asked after a `clear` waits for somebody else."""
        try:
            value = look_up()
        except BaseException as error:
            self._end(key, mine)
            mine.set_exception(error)
            raise
        self._end(key, mine, value)
        mine.set_result(value)
        return value

    def _end(self, key: Any, mine: "Future[Any]", value: Any = None) -> None:
        """Keep what was found, unless everything was to be forgotten meanwhile."""
        with self._lock:
            if self._under_way.get(key) is not mine:
                return
            del self._under_way[key]
            if len(self._found) >= self._most:
                self._found.clear()
            if value is not None:
                self._found[key] = (time.monotonic() + self._seconds, value)

    def peek(self, key: Any) -> Any:
        """Return the value at hand, however old, or None."""
        entry = self._found.get(key)
        return None if entry is None else entry[1]

    def clear(self) -> None:
        """Forget everything, also what is being looked up."""
        with self._lock:
            self._found.clear()
            self._under_way.clear()
