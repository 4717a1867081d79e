"""What identity adds to the running hub: the sweeps for suspensions and old sign-in counts."""

from datetime import timedelta

from flask import Flask

from identity import suspensions, throttle
from kernel import clock, queue
from kernel.database import EVERY, transaction

_EVERY_SO_OFTEN = timedelta(minutes=10)
_last_done = clock.now()


def forget_old_throttles() -> int:
    """Drop counts nobody has added to for an hour, at most every ten minutes; returns how many."""
    global _last_done
    if clock.now() - _last_done < _EVERY_SO_OFTEN:
        return 0
    _last_done = clock.now()
    with transaction(EVERY) as session:
        return throttle.forget_old(session)


def install(_app: Flask) -> None:
    """Join the sweeps, once however many apps are made."""
    if all(sweep.name != "identity.throttles" for sweep in queue.SWEEPS):
        queue.SWEEPS.append(queue.Sweep("identity.suspensions", suspensions.sweep))
        queue.SWEEPS.append(queue.Sweep("identity.throttles", forget_old_throttles))
