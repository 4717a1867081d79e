"""The thread that renews tokens ahead of time, so that a slow app never holds the sweeps up."""

import os
import threading

from connectors.health import refreshing
from kernel import log, queue

_logger = log.get_logger(__name__)
_thread: threading.Thread | None = None


def _forget() -> None:
    """Start without the parent's thread after a fork."""
    global _thread
    _thread = None


os.register_at_fork(after_in_child=_forget)


def sweep() -> int:
    """Start renewing if nobody here does already; returns how many threads were started."""
    global _thread
    if not queue.is_consuming() or (_thread is not None and _thread.is_alive()):
        return 0
    _thread = threading.Thread(target=_run, name="refreshing", daemon=True)
    _thread.start()
    return 0


def _run() -> None:
    try:
        refreshing.sweep()
    except Exception:
        _logger.exception("refreshing_stopped")
