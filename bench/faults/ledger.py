"""The ledger of both sides: what senders were told is safe, and everything that arrived.

Both are files as well, a line for each fact, written after the answer and on arrival.
"""

import hashlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Arrival:
    """What came under one id."""

    digest: str
    count: int = 1
    is_changed: bool = False
    at: float = field(default_factory=time.monotonic)  # of the first


@dataclass
class Door:
    """Everything that came in at one door of the receiver: id → arrival, order → ids.

    Counting takes a copy: while one counts, more may come in.
    """

    arrivals: dict[str, Arrival] = field(default_factory=dict)
    ids_of: dict[int, set[str]] = field(default_factory=dict)

    def note(self, key: str, number: int | None, body: bytes) -> Arrival:
        """Count an arrival; a repeated id with another body is remembered as changed."""
        digest = hashlib.sha256(body).hexdigest()
        known = self.arrivals.get(key)
        if known is None:
            known = self.arrivals[key] = Arrival(digest)
        else:
            known.count += 1
            known.is_changed |= known.digest != digest
        if number is not None:
            self.ids_of.setdefault(number, set()).add(key)
        return known

    @property
    def copies(self) -> int:
        """Arrivals beyond the first of each id."""
        return sum(one.count - 1 for one in list(self.arrivals.values()))

    @property
    def changed(self) -> int:
        """Ids whose copies were not all alike."""
        return sum(one.is_changed for one in list(self.arrivals.values()))

    @property
    def twice(self) -> int:
        """Orders that a receiver which knows ids would have processed more than once."""
        return sum(len(ids) - 1 for ids in list(self.ids_of.values()))


class Ledger:
    """Both sides' books."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.accepted: dict[int, str] = {}  # order → the id the hub gave it
        self.accepted_at: dict[int, float] = {}
        self.renamed: list[tuple[int, str, str]] = []  # orders that were given two ids
        self.endpoint, self.flow = Door(), Door()
        self.forged = 0
        self.lock = threading.Lock()
        self._sent = (folder / "accepted.txt").open("a")
        self._got = (folder / "arrived.txt").open("a")

    def note_accepted(self, number: int, event_id: str) -> None:
        """Write down what a 2xx said; the same order must always have the same id."""
        with self.lock:
            known = self.accepted.setdefault(number, event_id)
            self.accepted_at.setdefault(number, time.monotonic())
            if known != event_id:
                self.renamed.append((number, known, event_id))
            self._sent.write(f"{event_id} {number}\n")
            self._sent.flush()

    def note_arrival(self, door: Door, key: str, number: int | None, body: bytes) -> None:
        """Write down what came in."""
        with self.lock:
            known = door.note(key, number, body)
            name = "endpoint" if door is self.endpoint else "flow"
            self._got.write(f"{name} {key} {number} {known.digest}\n")
            self._got.flush()

    @property
    def arrived(self) -> int:
        """Count what has come out at both doors, each thing once."""
        return len(self.endpoint.arrivals) + len(self.flow.arrivals)

    def missing(self) -> dict[str, list[int]]:
        """Name the accepted orders that did not come out, by door."""
        with self.lock:
            arrived = self.endpoint.arrivals
            return {
                "endpoint": [n for n, i in self.accepted.items() if i not in arrived],
                "flow": [n for n in self.accepted if n not in self.flow.ids_of],
            }

    def waits(self, first: int, end: int) -> list[float]:
        """Return how long orders of these numbers took to the endpoint after they were accepted.

        Seconds, the shortest first; those that have not come are left out.
        """
        with self.lock:
            arrived = self.endpoint.arrivals
            pairs = [
                (self.accepted_at[n], arrived.get(self.accepted.get(n, "")))
                for n in range(first, end)
                if n in self.accepted_at
            ]
        return sorted(max(0.0, found.at - at) for at, found in pairs if found is not None)

    def close(self) -> None:
        """Close the files."""
        self._sent.close()
        self._got.close()
