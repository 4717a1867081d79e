"""Ordered sending: stretches of lanes are leased, sent one by one and written down as they go."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from webhooks import attempts, lanes, leases, outcomes, youth
from webhooks.attempts import Batch, Send
from webhooks.parcels import Parcel


@dataclass(frozen=True, slots=True)
class Claimed:
    """What was leased: for each endpoint some stretches, to be sent beside each other."""

    endpoints: list[list[list[Parcel]]]
    is_blocked: bool  # older events are just being routed: look again in a moment


def claim(session: Session, worker_id: str, slow: frozenset[str], *, is_slow: bool) -> Claimed:
    """Lease and pack stretches of the lanes that are due."""
    found = lanes.claim(session, worker_id, slow, is_slow=is_slow)
    parcels = attempts.pack(session, [pair for stretch in found.stretches for pair in stretch])
    by_id = {parcel.delivery_id: parcel for parcel in parcels}
    endpoints: dict[str, list[list[Parcel]]] = {}
    for stretch in found.stretches:
        packed = [by_id[row["id"]] for row, _ in stretch]
        endpoints.setdefault(packed[0].target.id, []).append(packed)
    return Claimed(list(endpoints.values()), found.is_blocked)


def send(stretches: Iterable[Sequence[Parcel]], through: Send) -> Iterator[Batch]:
    """Send each stretch of a lane one by one, the stretches beside each other; what comes behind a
    failure is not tried. Gives what was tried every few milliseconds, as `send_waves` does.
    """
    began = gave = time.monotonic()
    left = [list(stretch) for stretch in stretches]
    batch = Batch()
    while any(left):
        left = [stretch for stretch in left if stretch]
        if time.monotonic() - began > leases.LEASE_SECONDS / 2:
            batch.held_back += [parcel for stretch in left for parcel in stretch]
            break
        share = youth.take_share(len(left))
        now = left[: share.size]
        left = left[share.size :] + now
        wave = attempts.try_all([stretch[0] for stretch in now], through)
        for stretch, tried in zip(now, wave, strict=True):
            batch.tried.append(tried)
            del stretch[0]
            if outcomes.failure_of(tried.result) is not None:
                batch.held_back += stretch
                stretch.clear()
        if share.key is not None or time.monotonic() - gave > attempts.GIVE_SECONDS:
            yield batch
            batch, gave = Batch(), time.monotonic()
        share.give_back()
    if batch.tried or batch.held_back:
        yield batch
