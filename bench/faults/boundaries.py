"""Boundaries: the process is killed at its first commit, its second, its third, …

Each commit twice: just before it and just after. What a commit is for depends on what comes in
meanwhile; after a few dozen of them every kind has had its turn.
"""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from bench.faults.stage import EMBEDDED, Stage

EMBEDDED_COMMITS, SCALED_COMMITS = 10, 5
WAIT_SECONDS = 15
_STARTER = ("-m", "bench.faults.starter")


def kills(stage: Stage) -> Callable[[], dict[str, Any]]:
    """Kill before and after every commit, in the web server and in a worker if there is one."""
    last = EMBEDDED_COMMITS if stage.mode == EMBEDDED else SCALED_COMMITS
    numbers = (0,) if stage.mode == EMBEDDED else (0, 1)

    def fault() -> dict[str, Any]:
        done = missed = 0
        for number in numbers:
            for commit in range(1, last + 1):
                for when in ("before", "after"):
                    told = {"FAULTS_AT": json.dumps({"boundary": commit, "when": when})}
                    stage.restart(number, told, _STARTER)
                    try:
                        stage.victims[number].wait(WAIT_SECONDS + commit)
                        done += 1
                    except subprocess.TimeoutExpired:
                        missed += 1  # it had nothing to commit
            stage.restart(number)
            if number == 0:
                stage.hub.wait_ready(stage.victims[0])
        time.sleep(1)
        return {"boundaries": done, "not_met": missed}

    return fault
