"""Inbox: events of requests that arrive at the same moment share one statement and one commit.

The first request that finds nobody storing stores for all that wait; what arrives meanwhile is
the next one's. Nobody waits for company: a lone request is stored at once.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from kernel.database import EVERY, StoreUnavailable, write
from webhooks import events
from webhooks.events import Accepted, Arrival, NewEvent

MOST_TOGETHER = 200


@dataclass(slots=True)
class _Letter:
    """One request's events, and what is to be told to the thread that waits for them."""

    arrival: Arrival
    done: threading.Event = field(default_factory=threading.Event)
    must_store: bool = False
    accepted: list[Accepted] | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Box:
    letters: list[_Letter] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_storing: bool = False


_box = _Box()


def put(
    organization_id: str, source_id: str | None, new: Sequence[NewEvent], origin: str | None = None
) -> list[Accepted]:
    """Store events like `events.accept` and return once they are committed.

    Raises StoreUnavailable when they could not be stored.
    """
    letter = _Letter(Arrival(organization_id, source_id, new, origin))
    with _box.lock:
        _box.letters.append(letter)
        if not _box.is_storing:
            _box.is_storing = letter.must_store = True
    if not letter.must_store:
        letter.done.wait()
    if letter.must_store:
        _store_waiting()
    if letter.error is not None:
        raise letter.error
    assert letter.accepted is not None
    return letter.accepted


def _store_waiting() -> None:
    """Store everything that waits, one's own letter among it, and hand the duty on."""
    with _box.lock:
        letters, _box.letters = _box.letters[:MOST_TOGETHER], _box.letters[MOST_TOGETHER:]
    try:
        _store(letters)
    finally:
        with _box.lock:
            _box.is_storing = bool(_box.letters)
            if _box.letters:
                _box.letters[0].must_store = True
                _box.letters[0].done.set()
        for letter in letters:
            if letter.accepted is None and letter.error is None:
                letter.error = StoreUnavailable()
            letter.done.set()


def _store(letters: list[_Letter]) -> None:
    arrivals = [letter.arrival for letter in letters]
    tenants = {arrival.organization_id for arrival in arrivals}
    tenant = tenants.pop() if len(tenants) == 1 else EVERY
    try:
        answers = write(lambda session: events.accept_all(session, arrivals), tenant)
    except Exception as error:  # noqa: BLE001 - told to the threads that wait for it
        if len(letters) == 1 or isinstance(error, StoreUnavailable):
            for letter in letters:
                letter.error = error
        else:
            for letter in letters:
                _store([letter])  # one request's mistake must not cost the others theirs
        return
    for letter, accepted in zip(letters, answers, strict=True):
        letter.accepted = accepted
