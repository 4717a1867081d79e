"""What webhooks adds to the running hub: the door for domain events, and the sweep."""

from flask import Flask

from kernel import outbox, queue
from webhooks import drain, events, leases, workers


def install(_app: Flask) -> None:
    """Join the outbox and the sweeps, once however many apps are made."""
    if events.emit_domain not in outbox.DOORS:
        outbox.DOORS.append(events.emit_domain)
    if leases.release not in workers.HOLDERS:
        workers.HOLDERS.append(leases.release)
    if all(sweep.name != "webhooks.drain" for sweep in queue.SWEEPS):
        queue.SWEEPS.append(queue.Sweep("webhooks.drain", drain.sweep))
