"""The thread that looks after ordered webhooks, so that a slow app never holds the sweeps up."""

import os
import threading
import time

from connectors.subscriptions import claims, ordering, turns
from kernel import log, queue
from kernel.database import write

SETTLE_SECONDS = 30.0
_logger = log.get_logger(__name__)
_thread: threading.Thread | None = None
_settled_at = float("-inf")


def _forget() -> None:
    """Start without the parent's thread after a fork."""
    global _thread
    _thread = None


os.register_at_fork(after_in_child=_forget)


def sweep() -> int:
    """Start a thread if something is due; returns how many orders were made or ended."""
    global _thread, _settled_at
    if not queue.is_consuming():
        return 0
    changed = 0
    if time.monotonic() - _settled_at > SETTLE_SECONDS:
        _settled_at = time.monotonic()
        changed = write(ordering.settle)
    if (_thread is None or not _thread.is_alive()) and claims.is_any_due():
        _thread = threading.Thread(target=_run, name="subscriptions", daemon=True)
        _thread.start()
    return changed


def _run() -> None:
    try:
        turns.run_all()
    except Exception:
        _logger.exception("subscribing_stopped")
