"""What webhooks adds to the running hub: the door for domain events, and the sweeps."""

from datetime import timedelta

from flask import Flask

from catalog import event_types
from identity import suspensions
from kernel import clock, outbox, queue
from kernel.database import EVERY, transaction
from webhooks import (
    backlogs,
    bulk_replays,
    circuits,
    deletions,
    drain,
    endpoints,
    events,
    holding,
    leases,
    portals,
    usage,
    workers,
)
from webhooks.keeping import archiver, erasures, exports
from webhooks.keeping.turns import Housekeeper

_EVERY_SO_OFTEN = timedelta(hours=1)
_last_done = clock.now()
# What is done for one organization in its turn, in this order.
CHORES = [
    erasures.erase_next,
    exports.write_next,
    deletions.settle,
    archiver.archive,
    archiver.expire_chunks,
    archiver.forget_details,
    archiver.forget_refusals,
    archiver.forget_keys,
]
housekeeper = Housekeeper(CHORES)


def install(_app: Flask) -> None:
    """Join the outbox, the sweeps and the bell, once however many apps are made."""
    queue.HEARERS[events.TASK] = drain.ring
    if events.emit_domain not in outbox.DOORS:
        outbox.DOORS.append(events.emit_domain)
    if endpoints.receivers not in event_types.RECEIVERS:
        event_types.RECEIVERS.append(endpoints.receivers)
    if leases.release not in workers.HOLDERS:
        workers.HOLDERS.append(leases.release)
    for hold in (holding.ENDPOINTS, holding.EVENTS):
        if hold not in suspensions.HOLDS:
            suspensions.HOLDS.append(hold)
    if all(sweep.name != "webhooks.drain" for sweep in queue.SWEEPS):
        # first: what it lets go is found by the drain right behind it
        queue.SWEEPS.append(queue.Sweep("webhooks.circuits", circuits.sweep))
        queue.SWEEPS.append(queue.Sweep("webhooks.bulk_replays", bulk_replays.sweep))
        queue.SWEEPS.append(queue.Sweep("webhooks.drain", _sweep))
        queue.SWEEPS.append(queue.Sweep("webhooks.backlogs", backlogs.sweep))
        queue.SWEEPS.append(queue.Sweep("webhooks.forget", forget_old))
        queue.SWEEPS.append(queue.Sweep("webhooks.keeping", _keep_house))


def _sweep() -> int:
    return drain.sweep() if queue.is_consuming() else drain.sweep_for_others()


def _keep_house() -> int:
    """Workers keep house; processes that answer people are left alone."""
    return housekeeper.wake() if queue.is_consuming() else 0


def forget_old() -> int:
    """Drop counts nobody looks at and portal visits that have ended, at most once an hour."""
    global _last_done
    if clock.now() - _last_done < _EVERY_SO_OFTEN:
        return 0
    _last_done = clock.now()
    with transaction(EVERY) as session:
        return usage.forget_old(session) + portals.forget_old(session)
