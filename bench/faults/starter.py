"""Starts a hub that goes wrong at a chosen place; the hub's own code knows nothing of it.

`FAULTS_AT` in the environment is JSON: `{"poison": true}` ends the process wherever it meets a
marked event, `{"boundary": 7, "when": "before"}` at its seventh commit, before or after it;
`{"clock_off": 3600}` sets its clock an hour ahead.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from marketplace import cli

# What a marked event carries in it, by the place that it is poison for.
MARKS = {place: f"poison-{place}" for place in ("routing", "mapping", "send")}


def main() -> None:
    """Run the hub's command with the hooks in its process, not in the watcher's."""
    told = json.loads(os.environ.get("FAULTS_AT", "{}"))
    run = cli._run  # noqa: SLF001 - what the watcher's child does

    def harmed() -> None:
        if told.get("poison"):
            _poison()
        if told.get("boundary"):
            _boundary(int(told["boundary"]), told["when"])
        if told.get("clock_off"):
            _clock(int(told["clock_off"]))
        run()

    cli._run = harmed  # noqa: SLF001
    cli.run()


# --- poison --------------------------------------------------------------------------------------


def _poison() -> None:
    from connectors import stepping  # noqa: PLC0415 - in the child alone
    from webhooks import attempts, fan_out  # noqa: PLC0415

    plan, work, try_all = fan_out.plan, stepping.work, attempts.try_all

    def poisoned_plan(session: Any, events: Any, *rest: Any, **named: Any) -> Any:
        _die_if("routing", *(event.body for event in events))
        return plan(session, events, *rest, **named)

    def poisoned_work(moving: Any) -> Any:
        _die_if("mapping", repr(moving.activation["event"]).encode())
        return work(moving)

    def poisoned_tries(wave: Any, send: Any) -> Any:
        _die_if("send", *(parcel.body for parcel in wave))
        return try_all(wave, send)

    fan_out.plan = poisoned_plan
    stepping.work = poisoned_work
    attempts.try_all = poisoned_tries


def _die_if(place: str, *bodies: bytes) -> None:
    if any(MARKS[place].encode() in body for body in bodies):
        os.kill(os.getpid(), signal.SIGKILL)  # as a segfault or the lack of memory would end it


# --- clocks --------------------------------------------------------------------------------------


def _clock(off: int) -> None:
    from kernel import clock  # noqa: PLC0415 - in the child alone

    now, seconds = clock.now, time.time
    clock.now = lambda: now() + timedelta(seconds=off)
    time.time = lambda: seconds() + off


# --- boundaries ----------------------------------------------------------------------------------


class _Count:
    """Counts commits from the moment the process begins to carry things out."""

    def __init__(self, last: int, when: str) -> None:
        self.last, self.when = last, when
        self.done = 0
        self.is_on = False
        self._lock = threading.Lock()

    def around(self, commit: Callable[[], Any]) -> Any:
        with self._lock:
            self.done += self.is_on
            is_last = self.is_on and self.done == self.last
        if is_last and self.when == "before":
            _die_all()
        result = commit()
        if is_last:
            _die_all()
        return result


def _die_all() -> None:
    """End the process with its watcher and neighbours, as a power cut would."""
    os.killpg(0, signal.SIGKILL)


def _boundary(last: int, when: str) -> None:
    from kernel import database  # noqa: PLC0415 - in the child alone, before others name these
    from kernel.settings import settings  # noqa: PLC0415
    from webhooks import youth  # noqa: PLC0415

    count = _Count(last, when)
    session = database.Session
    commit, begin, write_once = session.commit, youth.begin, database.write_once

    def begun() -> None:
        count.is_on = True
        begin()

    def written(work: Callable[[Any], Any]) -> Any:
        return count.around(lambda: write_once(work))

    session.commit = lambda self: count.around(lambda: commit(self))
    if settings().mode == "scaled":  # there such a statement commits by itself
        database.write_once = written
    youth.begin = begun


if __name__ == "__main__":
    main()
