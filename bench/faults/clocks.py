"""Wrong clocks: processes start with a clock that is an hour off.

The fault's own starter puts another `time.time` and `kernel.clock.now` into the process; the hub
reads no other. (libfaketime 0.9.10 makes Python 3.11's own `time.sleep` fail or hang.)
"""

import json
import time
from collections.abc import Callable
from typing import Any

from bench.faults.private_servers import wait_until
from bench.faults.stage import EMBEDDED, Stage

HOUR = 3600
SKEWED_SECONDS = 12.0
_STARTER = ("-m", "bench.faults.starter")


def wrong_by(seconds: int) -> dict[str, str]:
    """Return what makes a process start with a clock that is wrong by so much."""
    return {"FAULTS_AT": json.dumps({"clock_off": seconds})}


def skew(stage: Stage) -> Callable[[], dict[str, Any]]:
    """The web server is an hour ahead, workers an hour behind; then all are right again.

    Who signs what it sends goes by the clock of the web server; one that does not is refused. The
    receiver goes by the right time and refuses what is signed an hour away from it: that is tried
    again. What was put off by a wrong clock, that of SQLite's one process above all, is not waited
    for: its times are brought forward.
    """

    def fault() -> dict[str, Any]:
        stage.is_in_a_hurry = stage.senders.tries_stale_again = True
        stage.senders.rests_shop = True
        wait_until(lambda: len(set(stage.documents()[:2])) == 1, 30)
        stage.restart(0, wrong_by(HOUR), _STARTER)
        stage.senders.clock_off = HOUR
        for number in range(1, len(stage.victims)):
            stage.restart(number, wrong_by(-HOUR), _STARTER)
        stage.hub.wait_ready(stage.victims[0])
        time.sleep(SKEWED_SECONDS)
        refusals = [_refusal(stage, off) for off in (-HOUR, HOUR)]
        stage.senders.clock_off = 0
        for number in range(len(stage.victims)):
            stage.restart(number)
        stage.hub.wait_ready(stage.victims[0])
        time.sleep(SKEWED_SECONDS / 3)
        stage.senders.tries_stale_again = stage.senders.rests_shop = False
        return {
            "web_s": HOUR,
            "workers_s": None if stage.mode == EMBEDDED else -HOUR,
            "refusals": refusals,
            "refused_by_receiver": stage.ledger.forged,
        }

    return fault


def _refusal(stage: Stage, off: int) -> dict[str, Any]:
    """Send a message whose signature is out of tolerance, and return what is said about it."""
    answer = stage.senders.knock(stage.senders.take_numbers(1), stage.senders.clock_off + off)
    if answer is None:
        return {"status": None}
    told = answer.json() if answer.headers.get("content-type", "").endswith("json") else {}
    return {"status": answer.status_code, "code": told.get("code"), "detail": told.get("detail")}
