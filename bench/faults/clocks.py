"""Wrong clocks: processes start with a clock that is an hour off.

libfaketime (Debian's package of that name) gives every process it is loaded into another time; time
that passes stays right. Without it this fault is skipped.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.faults.private_servers import ServiceMissingError
from bench.faults.stage import EMBEDDED, Stage

HOUR = 3600
SKEWED_SECONDS = 12.0
_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


def library() -> Path:
    """Return libfaketime; raises ServiceMissingError when it is not installed."""
    for place in _PLACES:
        for found in sorted(Path(place).glob("**/faketime/libfaketime.so.1")):
            return found
    raise ServiceMissingError("clock_skew: libfaketime is not installed (apt install libfaketime)")


def wrong_by(seconds: int) -> dict[str, str]:
    """Return what makes a process start with a clock that is wrong by so much."""
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def skew(stage: Stage) -> Callable[[], dict[str, Any]]:
    """The web server is an hour ahead, workers an hour behind; then all are right again.

    Who signs what it sends goes by the clock of the web server; one that does not is refused. In
    the embedded mode the one process has the clock of its store: it is an hour ahead to the end,
    as what it has put off until later would otherwise wait for that hour.
    """
    library()

    def fault() -> dict[str, Any]:
        stage.restart(0, wrong_by(HOUR))
        stage.senders.clock_off = HOUR
        for number in range(1, len(stage.victims)):
            stage.restart(number, wrong_by(-HOUR))
        stage.hub.wait_ready(stage.victims[0])
        time.sleep(SKEWED_SECONDS)
        refusals = [_refusal(stage, off) for off in (-HOUR, HOUR)]
        if stage.mode != EMBEDDED:
            stage.senders.clock_off = 0
            for number in range(len(stage.victims)):
                stage.restart(number)
            stage.hub.wait_ready(stage.victims[0])
            time.sleep(SKEWED_SECONDS / 3)
        return {"web_s": HOUR, "workers_s": -HOUR, "refusals": refusals}

    return fault


def _refusal(stage: Stage, off: int) -> dict[str, Any]:
    """Send a message whose signature is out of tolerance, and return what is said about it."""
    answer = stage.senders.knock(stage.senders.take_numbers(1), stage.senders.clock_off + off)
    if answer is None:
        return {"status": None}
    told = answer.json() if answer.headers.get("content-type", "").endswith("json") else {}
    return {"status": answer.status_code, "code": told.get("code"), "detail": told.get("detail")}
