"""The watcher of a hub that is one process: it starts a broken one again and ends when told to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marketplace import watching

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from marketplace import watching

watching.STEADY_SECONDS = float(sys.argv[2])
log = Path(sys.argv[1])


def work():
    with log.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    %s


sys.exit(watching.keep_alive(work))
"""
WAIT = "time.sleep(30)"


class Watched:
    """A watcher and what it watches, in a session of their own."""

    def __init__(self, tmp_path, does, steady=0.0):
        self.log = tmp_path / "started"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM % does, str(self.log), str(steady)],
            stderr=subprocess.PIPE,
            text=True,
        )

    def started(self, count):
        """Wait until the work was started so often; return the pids."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            pids = self.log.read_text().split() if self.log.exists() else []
            if len(pids) >= count:
                return [int(pid) for pid in pids]
            time.sleep(0.02)
        raise AssertionError("it was not started")

    def end(self):
        """Return the exit code and what was said."""
        said = self.process.communicate(timeout=20)[1]
        return self.process.returncode, said


@pytest.fixture
def watch(tmp_path):
    made = []

    def start(*arguments):
        made.append(Watched(tmp_path, *arguments))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_hub_that_was_killed_is_started_again(watch):
    watched = watch(WAIT)
    (first,) = watched.started(1)
    os.kill(first, signal.SIGKILL)
    first, second = watched.started(2)
    assert first != second
    watched.process.terminate()
    code, said = watched.end()
    assert code == 0
    assert "starting it again" in said
    assert not lives(second)


def test_a_hub_that_stands_still_is_started_again(watch):
    watched = watch("os._exit(watching.HUNG)")
    watched.started(2)
    watched.process.terminate()
    watched.end()


def test_a_hub_that_breaks_soon_is_started_again_after_ever_longer_pauses(watch):
    began = time.monotonic()
    watched = watch("os.kill(os.getpid(), signal.SIGKILL)", 20.0)
    watched.started(4)
    assert time.monotonic() - began > 0 + 0.5 + 1.0, "at once, and then it rests"
    watched.process.terminate()
    code, said = watched.end()
    assert code == 0, "told to end, it does not wait for the pause's end"
    assert "again in 0.0 s" in said
    assert "again in 1.0 s" in said


def test_one_that_was_steady_is_started_at_once(watch):
    watched = watch("os.kill(os.getpid(), signal.SIGKILL)", 0.0)
    watched.started(4)
    watched.process.terminate()
    _, said = watched.end()
    assert "again in 0.5 s" not in said


@pytest.mark.parametrize(
    ("does", "code", "words"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no room')", 1, "no room"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_a_hub_that_ends_by_itself_ends_the_watcher_alike(watch, does, code, words):
    ended, said = watch(does).end()
    assert ended == code
    assert words in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_the_watcher_ends_the_hub(watch, number):
    watched = watch(WAIT)
    (pid,) = watched.started(1)
    time.sleep(0.2)
    watched.process.send_signal(number)
    assert watched.end()[0] == 0
    assert not lives(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child")
def test_no_hub_outlives_its_watcher(watch):
    watched = watch(WAIT)
    (pid,) = watched.started(1)
    time.sleep(0.2)
    watched.process.kill()
    until = time.monotonic() + 10
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not lives(pid)


def test_the_watcher_stays_small():
    """It must not import the hub: that memory would be there twice."""
    heavy = [
        "sqlalchemy",
        "flask",
        "celery",
        "catalog",
        "connectors",
        "webhooks",
        "identity",
        "pydantic",
    ]
    said = f"import sys, marketplace.cli; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


PULSE = """
import asyncio, sys, time
from marketplace import server

server.PULSE_SECONDS, server.STILL_LOOKS = 0.05, 5
pulse = server._Pulse()
pulse.watch()


async def live(seconds):
    for _ in range(int(seconds / 0.02)):
        await asyncio.sleep(0.02)
        await pulse.beat()


asyncio.run(live(1))
%s
print("lived")
"""


def test_a_hub_whose_loop_stands_still_ends_for_its_watcher():
    found = subprocess.run([sys.executable, "-c", PULSE % "time.sleep(20)"], timeout=60)
    assert found.returncode == 70


def test_a_hub_that_was_stopped_as_a_whole_lives_on():
    process = subprocess.Popen(
        [sys.executable, "-c", PULSE % "asyncio.run(live(3))"], stdout=subprocess.PIPE, text=True
    )
    try:
        time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[0].strip() == "lived"
    finally:
        process.kill()


def test_three_events_that_end_the_process_are_set_aside_within_two_minutes():
    """Each ends it five times before it is set aside, and nothing comes in during the pauses."""
    pauses = [0.0]
    while len(pauses) < 15:
        pauses.append(watching.longer(pauses[-1]))
    assert pauses == sorted(pauses)
    assert sum(pauses) < 60, "a minute of pauses, another for the starts"
