"""What webhooks adds to the running hub: the door for domain events, and the sweep."""

from flask import Flask

from kernel import outbox, queue
from webhooks import drain, events, leases, workers


def install(_app: Flask) -> None:
    """Join the outbox, the sweeps and the bell, once however many apps are made."""
    queue.HEARERS[events.TASK] = drain.ring
    if events.emit_domain not in outbox.DOORS:
        outbox.DOORS.append(events.emit_domain)
    if leases.release not in workers.HOLDERS:
        workers.HOLDERS.append(leases.release)
    if all(sweep.name != "webhooks.drain" for sweep in queue.SWEEPS):
        queue.SWEEPS.append(queue.Sweep("webhooks.drain", _sweep))


def _sweep() -> int:
    return drain.sweep() if queue.is_consuming() else drain.sweep_for_others()
