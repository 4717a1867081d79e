"""Balance: of a machine's web processes the one with the fewest connections takes the next.

They share one listening socket, and whoever wakes first would take every connection that is opened
in a row: the sixteen kept connections of one busy sender ended in one process, while the other had
nothing to do. So they tell each other in shared memory how many they hold, and who holds more than
another lets it go first: for a millisecond, as that one may be busy or gone.
"""

import mmap
import os
import struct
import time
from typing import Any

SLOTS = 64
YIELDS, YIELD_SECONDS = 5, 0.0002
_SLOT = struct.Struct("ii")  # process id (0: free), connections it holds


class Board:
    """What each process holds, in memory that forks share; one slot a process."""

    def __init__(self) -> None:
        """Make an empty board, to be shared with processes forked from here on."""
        self._memory = mmap.mmap(-1, SLOTS * _SLOT.size)

    def write(self, slot: int, pid: int, held: int) -> None:
        """Say what a process holds; pid 0 frees the slot."""
        _SLOT.pack_into(self._memory, slot % SLOTS * _SLOT.size, pid, held)

    def fewest(self) -> int:
        """Return how many connections the least loaded process holds."""
        return min((held for pid, held in _SLOT.iter_unpack(self._memory[:]) if pid), default=0)


class Seat:
    """One process's place at the board."""

    def __init__(self, board: Board, slot: int) -> None:
        """Sit down with nothing held."""
        self._board, self._slot, self.held = board, slot, 0
        self.hold(0)

    def hold(self, more: int) -> None:
        """Hold so many connections more, or fewer."""
        self.held += more
        self._board.write(self._slot, os.getpid(), self.held)

    def wait_for_others(self) -> None:
        """Let a process that holds fewer connections go first."""
        for _ in range(YIELDS):
            if self.held <= self._board.fewest():
                return
            time.sleep(YIELD_SECONDS)


class Listener:
    """A listening socket that is asked only when it is this process's turn."""

    def __init__(self, listener: Any, seat: Seat) -> None:
        """Stand in front of a socket, or of what gunicorn wraps one in."""
        self._listener, self._seat = listener, seat

    def __getattr__(self, name: str) -> Any:
        """Be the socket in everything else."""
        return getattr(self._listener, name)

    def accept(self) -> Any:
        """Take the next connection; raises BlockingIOError when another process was faster."""
        self._seat.wait_for_others()
        return self._listener.accept()


_seat: Seat | None = None


def sit_down(board: Board, slot: int) -> Seat:
    """Give this process its seat; connections are counted from now on."""
    global _seat
    _seat = Seat(board, slot)
    return _seat


def opened() -> None:
    """Count a connection, where there is somebody to share them with."""
    if _seat is not None:
        _seat.hold(1)


def closed() -> None:
    """Count it no more."""
    if _seat is not None:
        _seat.hold(-1)
