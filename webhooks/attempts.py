"""Attempts: due deliveries are claimed, sent together and written down in one commit."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from kernel import clock, http, log
from kernel.http import Failure, Request, Response
from webhooks import leases, youth
from webhooks.parcels import (
    Parcel,
    cloud_event,
    request_of,
    target_of,
)
from webhooks.payloads import is_referred
from webhooks.tables import EVENT

WAVE = 64
GIVE_SECONDS = 0.008
_UNREACHABLE = {"timeout", "connect", "dns", "tls", "refused_address"}
_SHOWN_HEADERS = 30
_logger = log.get_logger(__name__)

Send = Callable[[Sequence[Request]], Sequence[Response | Failure]]


class Flying:
    """Which targets were asked and have not answered yet."""

    def __init__(self) -> None:
        """Start with none."""
        self._asked: dict[tuple[int, int], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def begin(self, targets: Sequence[str]) -> None:
        """Note a wave of this thread, by the places of its requests."""
        now, thread = time.monotonic(), threading.get_ident()
        with self._lock:
            self._asked.update({(thread, n): (one, now) for n, one in enumerate(targets)})

    def land(self, place: int, _answer: object = None) -> None:
        """Note that a request of this thread's wave is answered."""
        with self._lock:
            self._asked.pop((threading.get_ident(), place), None)

    def longer_than(self, seconds: float) -> set[str]:
        """Name the targets that have not answered for so long."""
        if not self._asked:
            return set()
        before = time.monotonic() - seconds
        with self._lock:
            return {target for target, since in self._asked.values() if since < before}


flying = Flying()


def _forget() -> None:
    """Drop what a fork must not share: a lock, and what the parent's threads wait for."""
    global flying
    flying = Flying()


os.register_at_fork(after_in_child=_forget)


def send_together(requests: Sequence[Request]) -> Sequence[Response | Failure]:
    """Send a whole wave at once, so that it lasts no longer than its slowest target."""
    return http.send_all(requests, limit=WAVE, tell=flying.land)


@dataclass(frozen=True, slots=True)
class Tried:
    """One HTTP try and what came of it."""

    parcel: Parcel
    request: Request
    result: Response | Failure
    started_at: datetime
    elapsed_ms: int


@dataclass(slots=True)
class Batch:
    """What a worker did with the parcels of one lease: tried some, held others back untried."""

    tried: list[Tried] = field(default_factory=list)
    held_back: list[Parcel] = field(default_factory=list)


def claim_due(
    session: Session, worker_id: str, slow: frozenset[str], *, is_slow: bool
) -> list[Parcel]:
    """Lease deliveries whose time has come and pack them."""
    return pack(session, leases.claim_deliveries(session, worker_id, slow, is_slow=is_slow))


def pack(
    session: Session, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> list[Parcel]:
    """Pack leased deliveries for their endpoints."""
    now = clock.now()
    event_keys = {(row["organization_id"], row["event_id"]) for row, _ in pairs}
    if not event_keys:
        return []
    found = session.execute(select(EVENT).where(leases.any_of(EVENT, event_keys))).mappings()
    stored = {(row["organization_id"], row["id"]): dict(row) for row in found}
    bodies: dict[tuple[str, ...], bytes] = {}

    def body_for(delivery: Mapping[str, Any], endpoint: Mapping[str, Any]) -> bytes:
        key = delivery["organization_id"], delivery["event_id"]
        packed = (*key, endpoint["id"] if is_referred(stored[key]["body"], endpoint) else "")
        if packed not in bodies:
            bodies[packed] = cloud_event(stored[key], packed[2])
        return bodies[packed]

    return [
        Parcel(
            organization_id=row["organization_id"],
            delivery_id=row["id"],
            event_id=row["event_id"],
            target=target_of(endpoint, now),
            body=body_for(row, endpoint),
            attempt_no=row["attempt_count"] + 1,
            ladder_step=row["ladder_step"] + 1,
            lease_owner=row["lease_owner"],
        )
        for row, endpoint in pairs
    ]


def send_waves(parcels: Sequence[Parcel], send: Send = send_together) -> Iterator[Batch]:
    """Send in waves of a few per endpoint; stops asking an endpoint that gives no answer.

    Gives what was tried every few milliseconds, a young process after every wave, to be written
    down before more is sent: whatever is sent and not written down when a process dies goes out
    again.
    """
    began = gave = time.monotonic()
    waiting = list(parcels)
    dead: set[str] = set()
    batch = Batch()
    while waiting:
        if time.monotonic() - began > leases.LEASE_SECONDS / 2:
            batch.held_back += waiting  # the lease might not last for another wave
            break
        share = youth.take_share(min(len(waiting), WAVE))
        wave, waiting = _next_wave(waiting, share.size)
        for tried in try_all(wave, send):
            batch.tried.append(tried)
            if isinstance(tried.result, Failure) and tried.result.kind in _UNREACHABLE:
                dead.add(tried.parcel.target.id)
        batch.held_back += [parcel for parcel in waiting if parcel.target.id in dead]
        waiting = [parcel for parcel in waiting if parcel.target.id not in dead]
        if share.key is not None or time.monotonic() - gave > GIVE_SECONDS:
            yield batch
            batch, gave = Batch(), time.monotonic()
        share.give_back()
    if batch.tried or batch.held_back:
        yield batch


def try_all(wave: Sequence[Parcel], send: Send) -> list[Tried]:
    """Send parcels at once."""
    now = clock.now()
    requests = [request_of(parcel, now) for parcel in wave]
    started = time.monotonic()
    flying.begin([parcel.target.id for parcel in wave])
    try:
        results = send(requests)
    finally:
        for place in range(len(wave)):
            flying.land(place)
    spent_ms = int((time.monotonic() - started) * 1000)
    return [
        Tried(parcel, request, result, now, result.elapsed_ms or spent_ms)
        for parcel, request, result in zip(wave, requests, results, strict=True)
    ]


def try_once(parcel: Parcel) -> Tried:
    """Send one parcel and write nothing down."""
    (batch,) = send_waves([parcel])
    return batch.tried[0]


def _next_wave(parcels: list[Parcel], most: int) -> tuple[list[Parcel], list[Parcel]]:
    wave: list[Parcel] = []
    rest: list[Parcel] = []
    in_flight: dict[str, int] = {}
    for parcel in parcels:
        taken = in_flight.get(parcel.target.id, 0)
        if (
            taken < (parcel.target.max_in_flight or leases.IN_FLIGHT_PER_ENDPOINT)
            and len(wave) < most
        ):
            in_flight[parcel.target.id] = taken + 1
            wave.append(parcel)
        else:
            rest.append(parcel)
    return wave, rest
