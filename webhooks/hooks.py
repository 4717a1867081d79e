"""What webhooks adds to the running hub: the gate, the door for domain events, the sweep."""

from flask import Flask

from kernel import outbox, queue
from webhooks import drain, events, gate, leases, workers


def install(app: Flask) -> None:
    """Stand in front of the app; join outbox, sweeps and bell once however many apps are made."""
    app.wsgi_app = gate.Gate(app.wsgi_app)  # type: ignore[method-assign]
    queue.HEARERS[events.TASK] = drain.ring
    if events.emit_domain not in outbox.DOORS:
        outbox.DOORS.append(events.emit_domain)
    if leases.release not in workers.HOLDERS:
        workers.HOLDERS.append(leases.release)
    if all(sweep.name != "webhooks.drain" for sweep in queue.SWEEPS):
        queue.SWEEPS.append(queue.Sweep("webhooks.drain", _sweep))


def _sweep() -> int:
    return drain.sweep() if queue.is_consuming() else drain.sweep_for_others()
