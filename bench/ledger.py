"""A ledger of every event: when it was sent, answered and arrived, and how many copies came.

It lies in a file that the load, the target and the bench map into memory, so that noting a time
costs none of them a message. Times are those of the monotonic clock, which all processes share.
"""

import mmap
from pathlib import Path
from types import TracebackType
from typing import Self

CAPACITY = 8_000_000  # the file is sparse: numbers that are never used take no room
_HEAD = 4096
_TIME = 8
_COUNT = 2


class Ledger:
    """The columns `sent`, `answered`, `arrived` and `copies`, indexed by event number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = _HEAD + CAPACITY * (3 * _TIME + _COUNT)
        with path.open("a+b") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)
        view = memoryview(self._memory)
        self._views = [view]
        self.totals = self._column(view[:_HEAD], "q")
        times = [
            self._column(view[_HEAD + n * CAPACITY * _TIME :][: CAPACITY * _TIME], "d")
            for n in range(3)
        ]
        self.sent, self.answered, self.arrived = times
        self.copies = self._column(view[_HEAD + 3 * CAPACITY * _TIME :], "H")

    def _column(self, part: memoryview, kind: str) -> memoryview:
        column = part.cast(kind)
        self._views += [part, column]
        return column

    def note_arrival(self, number: int, at: float) -> None:
        """Count a copy of an event; only the first sets the time."""
        if number >= CAPACITY:
            self.note_stranger()
            return
        if not self.copies[number]:
            self.arrived[number] = at
            self.totals[0] += 1
        self.copies[number] += 1

    def note_stranger(self) -> None:
        """Count a request that carries no event of this bench."""
        self.totals[1] += 1

    @property
    def arrivals(self) -> int:
        """Different events that arrived so far."""
        return self.totals[0]

    @property
    def strangers(self) -> int:
        """Requests so far that carried no event of this bench."""
        return self.totals[1]

    def close(self) -> None:
        """Let go of the file."""
        for view in reversed(self._views):
            view.release()
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
