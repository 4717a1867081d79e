"""Storms: processes are killed or told to go, again and again, while events come in."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from bench import processes
from bench.faults.stage import EMBEDDED, Stage

UPTIME_SECONDS = (0.3, 1.2)
LEASE_SECONDS = 60
EXIT_SECONDS = 30


def kills(stage: Stage, count: int) -> Callable[[], dict[str, Any]]:
    """kill -9 in turn: the web server, each worker, one web process alone; or all there is."""

    def fault() -> dict[str, Any]:
        killed = 0
        while killed < count:
            time.sleep(random.uniform(*UPTIME_SECONDS))
            number = killed % (len(stage.victims) + 1)
            if number == len(stage.victims):
                _kill_child(stage.victims[0])
            else:
                stage.restart(number)
                if number == 0:
                    stage.hub.wait_ready(stage.victims[0])
            killed += 1
        return {"kills": killed}

    return fault


def _kill_child(parent: subprocess.Popen[bytes]) -> None:
    """Kill one process that the web server has started; it starts another by itself."""
    children = sorted(processes.tree([parent.pid]) - {parent.pid})
    if children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(children), signal.SIGKILL)


def deploys(stage: Stage, count: int) -> Callable[[], dict[str, Any]]:
    """Rolling deploys: SIGTERM, wait for the end, start again, one process after the other."""

    def fault() -> dict[str, Any]:
        slowest: dict[str, float] = {}
        codes = set()
        for number in range(count):
            time.sleep(random.uniform(*UPTIME_SECONDS))
            victim = number % len(stage.victims)
            process = stage.victims[victim]
            started = time.monotonic()
            process.terminate()
            try:
                codes.add(process.wait(EXIT_SECONDS * 2))
            except subprocess.TimeoutExpired:
                codes.add(-9)
                stage.hub.kill(process)
            name = "up" if victim == 0 else "worker"
            slowest[name] = max(slowest.get(name, 0.0), round(time.monotonic() - started, 1))
            stage.start(victim)
            if victim == 0:
                stage.hub.wait_ready(stage.victims[0])
        return {"deploys": count, "slowest_exit_s": slowest, "exit_codes": sorted(codes)}

    return fault


def freeze(stage: Stage, seconds: float = LEASE_SECONDS + 15) -> Callable[[], dict[str, Any]]:
    """SIGSTOP a worker for longer than its lease, then let it go on: late records are refused."""
    number = 0 if stage.mode == EMBEDDED else 1

    def fault() -> dict[str, Any]:
        time.sleep(2)
        victim = stage.victims[number]
        group = os.getpgid(victim.pid)
        os.killpg(group, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.killpg(group, signal.SIGCONT)
        time.sleep(3)
        return {
            "frozen_s": seconds,
            "late_records_refused": log_count(stage, "late_record_refused"),
        }

    return fault


def log_count(stage: Stage, word: str) -> int:
    """Count a word in the hub's log."""
    stage.hub.log.flush()
    return (stage.hub.folder / "hub.log").read_text(errors="replace").count(word)
