"""Inbox: events of requests that arrive at the same moment share one statement and one commit.

One thread stores whatever waits, and then what has come meanwhile. A lone request is stored at
once; behind a batch the thread waits a moment for as many again, as senders that were just answered
often come back. While its process has room to carry them out, events are routed in the statement
that stores them (decision 0007); what finds no room, or has to wait for others (`turns`), is left
to a drain.
"""

import os
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from sqlmodel import Session

from kernel import log, queue
from kernel.database import EVERY, StoreUnavailable, write, write_once
from kernel.rows import keeps_others_out
from webhooks import carrying, drain, events, fan_out, pressure, quotas, ready, usage, workers
from webhooks.events import Accepted, Arrival, NewEvent
from webhooks.fan_out import MustLockError, Routed
from webhooks.letters import Answer, Letter
from webhooks.turns import Turns

GATHER_SECONDS = 0.01
# So long letters wait for earlier ones to be carried out, which slows their senders down. When
# that was in vain the targets are slow, and for a while nobody is made to wait for them.
PATIENCE_SECONDS, IMPATIENT_SECONDS = 0.4, 5.0

# Set in processes that carry out what they take in; others leave everything to a drain.
_carries = False
_logger = log.get_logger(__name__)


def carry_on() -> None:
    """From now on, let this process carry out what it takes in."""
    global _carries
    _carries = True


@dataclass(slots=True)
class _Box:
    letters: list[Letter] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    thread: threading.Thread | None = None
    wanted: int = 1  # with so many letters the thread need not wait for more
    usual: int = 1  # so many came together lately
    impatient_until: float = 0.0
    turns: Turns = field(default_factory=lambda: Turns(quotas.weight_of))


_box = _Box()


def _forget() -> None:
    """Start with an empty box and no thread after a fork."""
    global _box
    _box = _Box()


os.register_at_fork(after_in_child=_forget)


def put(
    organization_id: str, source_id: str | None, new: Sequence[NewEvent], origin: str | None = None
) -> list[Accepted]:
    """Store events like `events.accept` and return once they are committed.

    Raises StoreUnavailable when they could not be stored.
    """
    future: Future[list[Accepted]] = Future()

    def tell(answer: Answer) -> None:
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    post(Letter(Arrival(organization_id, source_id, new, origin), tell))
    return future.result()


def post(letter: Letter) -> None:
    """Leave a letter to the storing thread and go on."""
    with _box.changed:
        _box.letters.append(letter)
        if _box.thread is None or not _box.thread.is_alive():
            _box.thread = threading.Thread(target=_store_for_ever, name="inbox", daemon=True)
            _box.thread.start()
        if len(_box.letters) >= _box.wanted:
            _box.changed.notify()


def _store_for_ever() -> None:
    ended = time.monotonic()
    while True:
        letters = _next_letters()
        began = max(ended, letters[0].posted_at)
        deferred = _box.turns.deferred(letters)
        for letter, answer in zip(letters, _store(letters, deferred), strict=True):
            letter.tell(answer)
        ended = time.monotonic()
        pressure.worked(ended - began)
        _box.turns.stored(letters)
        with _box.changed:
            # a batch costs about the same however small: let the next one gather
            _box.usual = max(len(letters), _box.usual - 1)
            if len(letters) > 1:
                _box.wanted = _box.usual
                _box.changed.wait_for(_is_full, GATHER_SECONDS)
                _box.wanted = 1


def _is_full() -> bool:
    return len(_box.letters) >= _box.wanted


def _next_letters() -> list[Letter]:
    with _box.changed:
        _box.changed.wait_for(_is_full)
        letters, _box.letters = _box.turns.pick(_box.letters)
    if not _carries or drain.is_stopping():
        return letters
    fitting = _fitting(letters)
    if fitting < len(letters):
        with _box.changed:
            _box.letters = letters[fitting:] + _box.letters
    return letters[:fitting]


def _fitting(letters: Sequence[Letter]) -> int:
    """Wait a moment for room; return how many letters it is enough for, at least one.

    When there is none, all of them: they are left to a drain.
    """
    sizes = [len(letter.arrival.events) for letter in letters]
    room, now = carrying.room(), time.monotonic()
    if room >= sum(sizes) or now < _box.impatient_until:
        return len(letters)
    room = carrying.wait_for_room(sum(sizes), PATIENCE_SECONDS)
    if time.monotonic() - now >= PATIENCE_SECONDS:
        _box.impatient_until = time.monotonic() + IMPATIENT_SECONDS
    fitting = bisect_right(list(accumulate(sizes)), room)
    return max(1, fitting) if room else len(letters)


def _store(
    letters: list[Letter], deferred: Collection[int] = (), *, goes_on: bool = True
) -> list[Answer]:
    arrivals = [letter.arrival for letter in letters]
    try:
        accepted, routed = _write(arrivals, deferred, goes_on=goes_on and _carries)
    except Exception as error:  # noqa: BLE001 - told to whoever waits for it
        if isinstance(error, StoreUnavailable):
            return [error] * len(letters)
        if goes_on and _carries:
            # what cannot be routed is no reason to refuse it: a drain finds out which event it is
            _logger.warning("not_routed_at_once", error=str(error)[:300])
            return _store(letters, goes_on=False)
        if len(letters) == 1:
            return [error]
        # one request's mistake must not cost the others theirs
        return [answer for one in letters for answer in _store([one], goes_on=goes_on)]
    if routed is not None:
        _go_on(routed)
    return list(accepted)


def _write(
    arrivals: list[Arrival], deferred: Collection[int], *, goes_on: bool
) -> tuple[list[list[Accepted]], Routed | None]:
    """Store arrivals, and route them when there is room to carry them out here."""
    room = carrying.room() if goes_on and not drain.is_stopping() else 0
    # a wary process leaves routing to a drain, which notes first what it is going to route
    if room and workers.name() and not workers.is_wary():
        return _write_and_route(arrivals, deferred, room)
    tenants = {arrival.organization_id for arrival in arrivals}
    tenant = tenants.pop() if len(tenants) == 1 else EVERY
    return write(lambda session: events.accept_all(session, arrivals), tenant), None


def _write_and_route(
    arrivals: list[Arrival], deferred: Collection[int], room: int
) -> tuple[list[list[Accepted]], Routed]:
    """Plan first what the events cause, then store it all in one statement.

    Those at the `deferred` places are stored and left to a drain.
    """
    letters = [
        rows
        for place, arrival in enumerate(arrivals)
        for rows in events.rows_of([arrival], "new" if place in deferred else "routed")
    ]
    stored = events.as_rows(letters)
    good = ready.of_rows([row for row in stored.rows if row["state"] == "routed"])
    worker, slow = workers.name(), carrying.pace.slow()

    def work(session: Session, *, may_lock: bool) -> tuple[list[list[Accepted]], Routed]:
        routed = Routed(worker, room, may_lock, count=len(good))
        planned = fan_out.plan(session, good, routed, slow)
        inserted = fan_out.write_down(session, planned, routed, stored)
        routed.tally = Counter(one.organization_id for one in good if one.id in inserted)
        return events.answers(session, letters, inserted), routed

    try:
        done = write_once(lambda session: work(session, may_lock=keeps_others_out(session)))
    except MustLockError:
        done = write(lambda session: work(session, may_lock=True))
    if deferred:
        _leave_to_a_drain(stored.rows)
    return done


def _leave_to_a_drain(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        if row["state"] == "new":
            usage.add(row["organization_id"], row["source_id"], deferred=1)
    queue.nudge(None, events.TASK)


def _go_on(routed: Routed) -> None:
    for job in carrying.carry(routed):
        job.add_done_callback(_look_at)
        if routed.is_limited:
            # what found the endpoint's few requests taken waits for one of these to end
            job.add_done_callback(lambda _: queue.nudge(None, events.TASK))
    if routed.is_rest_due or routed.is_ordered:
        queue.nudge(None, events.TASK)


def _look_at(job: Future[int]) -> None:
    if error := job.exception():
        # the rows are leased and go out again once the lease is over
        _logger.error("not_carried_out", error=str(error)[:300])
