"""The threads that take turns at reconciliations, beside everything else a worker does."""

import os
import threading
import time
from functools import partial

from connectors import reconcile_claims, reconcile_records, reconcile_turns, reconciliations
from kernel import log, queue
from kernel.database import EVERY, StoreUnavailable, reading, write
from webhooks import workers

MAX_TURNS = 1000
THREADS = 3
ADOPT_SECONDS = 300.0
_logger = log.get_logger(__name__)

_threads: list[threading.Thread] = []
_adopted_at = float("-inf")


def _forget_threads() -> None:
    """Start without the parent's threads after a fork."""
    _threads.clear()


os.register_at_fork(after_in_child=_forget_threads)


def look_all(worker_id: str) -> int:
    """Take turns until nothing is due and return how many were taken."""
    for count in range(MAX_TURNS):
        turn = write(partial(reconcile_claims.claim, worker_id=worker_id))
        if turn is None:
            return count
        try:
            reconcile_turns.take(turn)
        except StoreUnavailable:
            return count  # the lease runs out and somebody goes on once the store is back
        except Exception:  # our bug: told to the log, and tried again later
            _logger.exception("reconciliation_failed", source=turn.row.id)
            write(partial(reconcile_records.let_go, turn=turn), turn.row.organization_id)
    return MAX_TURNS


def sweep() -> int:
    """Start threads for what is due, so that a slow app never holds the other sweeps up.

    Returns how many were started.
    """
    global _adopted_at
    if not queue.is_consuming():
        return 0
    if time.monotonic() - _adopted_at > ADOPT_SECONDS:
        _adopted_at = time.monotonic()
        write(reconciliations.adopt)
    with reading(EVERY) as session:
        is_over = reconcile_claims.is_lease_over(session)
        due = reconcile_claims.count_due(session, THREADS)
    if is_over:
        write(reconcile_claims.reclaim)
    _threads[:] = [thread for thread in _threads if thread.is_alive()]
    wanted = min(due, THREADS - len(_threads))
    for _ in range(wanted):
        thread = threading.Thread(target=_look, name="reconcile", daemon=True)
        thread.start()
        _threads.append(thread)
    return max(0, wanted)


def _look() -> None:
    try:
        look_all(workers.name())
    except Exception:
        _logger.exception("reconciling_stopped")
