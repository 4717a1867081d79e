"""Advance: moves ready runs on, round by round, many at once.

claim (commit) → pure steps in memory → calls, lane by lane → record (commit) → next round.
A crash anywhere repeats work under the same effect key; a late worker's record is refused.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from connectors import claims, connections, lanes, loading, recording, stepping
from connectors.connections import Open
from connectors.flow_documents import action_of
from connectors.resting import quota
from connectors.stepping import Call, Moving
from kernel.database import EVERY, reading
from kernel.errors import NotFound
from webhooks import drain, youth
from webhooks.ready import ReadyEvent

BATCH = 50
PATIENCE_SECONDS = 0.3  # how long the fast lanes of a round wait for each other
LOOK_SECONDS = 0.1  # with nothing but slow apps in the air: how often to look for other work
HAND_OVER_SECONDS = 3  # so long a worker takes on itself what waited behind the runs it ended
AGAIN_SECONDS = 0.02
TURN_SECONDS = 30  # a drain stops taking new runs after this and finishes what it has


def advance(worker_id: str) -> int:
    """Move up to a batch of ready runs as far as they go; return how many were taken.

    AGAIN when there are such as wait only for events in front of theirs to be routed.
    """
    ready = take(worker_id, BATCH)
    if not ready and claims.is_any_held_up():
        time.sleep(AGAIN_SECONDS)
        return drain.AGAIN
    return _move(worker_id, ready, takes_more=True)


def go_on(worker_id: str, born: Sequence[tuple[Mapping[str, Any], ReadyEvent]]) -> int:
    """Move runs as far as they go that were just routed and are leased to the worker."""
    return _move(worker_id, loading.load_born(born), takes_more=False)


def _move(worker_id: str, ready: list[Moving], *, takes_more: bool) -> int:
    taken, began = len(ready), time.monotonic()
    flight = lanes.Flight()
    while ready or flight:
        share = youth.take_share(len(ready))
        going, later = ready[: share.size], ready[share.size :]
        rested = _work(worker_id, going, flight, waits=not (takes_more or later))
        landed = flight.land(PATIENCE_SECONDS if going else LOOK_SECONDS)
        for landing in landed:
            landing.apply()
        rested += [landing.call.moving for landing in landed]
        goes_on = time.monotonic() - began < HAND_OVER_SECONDS and not drain.is_stopping()
        ready, handed = recording.record_and_take(worker_id, rested, takes=goes_on)
        ready += loading.load(handed) + later
        taken += len(handed)
        share.give_back()
        if takes_more and flight and not ready and time.monotonic() - began < TURN_SECONDS:
            # only slow apps are in the air: others need not wait for them
            ready = take(worker_id, BATCH - flight.size)
            taken += len(ready)
    return taken


def take(worker_id: str, limit: int) -> list[Moving]:
    """Claim and load ready runs; lanes that are being waited for are left alone."""
    if limit <= 0:
        return []
    rows = claims.claim(worker_id, limit=limit, pace=lanes.pace(), busy=lanes.slow_lanes())
    return loading.load(rows)


def _work(
    worker_id: str, ready: Sequence[Moving], flight: lanes.Flight, *, waits: bool
) -> list[Moving]:
    """Do the pure steps and send the calls off; return the runs that came to rest."""
    calls: list[Call] = []
    for moving in ready:
        if moving.state == "leased":
            call = stepping.work(moving)
            if call is not None:
                calls.append(call)
    flying = {call.moving.id for call in calls}
    rested = [moving for moving in ready if moving.id not in flying]
    quota.hold_back(rested)
    calls = _mark(worker_id, calls)
    opened = _open(calls)
    by_lane: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        by_lane[call.moving.organization_id, call.step.connection or ""].append(call)
    groups = [(key[1], opened.get(key), group) for key, group in by_lane.items()]
    if waits and len(groups) == 1 and len(calls) <= lanes.LONGEST_SLICE:
        flight.make(*groups[0])  # a few calls to one app need no thread of their own
        return rested
    light = [group for group in groups if lanes.is_light(group)]
    if len(light) > 1:
        flight.start_together(light)
        groups = [group for group in groups if not lanes.is_light(group)]
    for group in groups:
        flight.start(*group)
    return rested


def _mark(worker_id: str, calls: Sequence[Call]) -> list[Call]:
    """Commit "about to send" for calls that must never be made twice; the others need none."""
    once: list[Moving] = []
    for call in calls:
        if not _may_repeat(call):
            call.note.state = "sending"
            once.append(call.moving)
    if not once:
        return list(calls)
    held = {moving.id for moving in recording.record(worker_id, once)}
    lost = {moving.id for moving in once} - held
    return [call for call in calls if call.moving.id not in lost]


def _may_repeat(call: Call) -> bool:
    try:
        _, action = action_of(call.step.connector or "", call.step.action or "")
    except NotFound:
        return True  # it will not be sent at all
    return action.is_idempotent


def _open(calls: Sequence[Call]) -> dict[tuple[str, str], Open]:
    keys = sorted(
        {
            (call.moving.organization_id, call.step.connection)
            for call in calls
            if call.step.connection
        }
    )
    if not keys:
        return {}
    with reading(EVERY) as session:
        return connections.open_many(session, keys)
