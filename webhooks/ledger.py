"""Ledger: once a second what this process has counted goes to the store, and what the others
have counted comes back, for every tenant at once.
"""

import threading
import time

from sqlmodel import Session

from kernel import log
from kernel.database import EVERY, reading, store_now, write
from webhooks import pressure, quotas, refusals, usage, workers

TURN_SECONDS = 1.0
_logger = log.get_logger(__name__)


def turn() -> None:
    """Write down and read back once; what cannot be written is kept for the next turn."""
    counted, refused = usage.take(), refusals.take()
    speaker = workers.name() if pressure.turn() else None

    def work(session: Session) -> None:
        usage.store(session, counted)
        refusals.store(session, refused)
        if speaker:
            pressure.say(session, speaker)

    if counted or refused or speaker:
        try:
            write(work)
        except Exception:
            usage.put_back(counted)
            refusals.put_back(refused)
            raise
        quotas.written(counted)
    asked = quotas.active()
    with reading(EVERY) as session:
        pressure.hear(session)
        if asked:
            quotas.set_clock(store_now(session))
            quotas.read_back(session, asked)


def keep_turning() -> threading.Thread:
    """Start the thread that turns for this process."""

    def run() -> None:
        while True:
            time.sleep(TURN_SECONDS)
            try:
                turn()
            except Exception as error:  # noqa: BLE001 - the store may be away; the next turn tells
                _logger.warning("ledger_waits", error=str(error)[:200])

    thread = threading.Thread(target=run, name="ledger", daemon=True)
    thread.start()
    return thread
