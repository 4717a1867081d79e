"""Watching: a hub of one process, or a worker, runs in a child and is started again when it breaks.

The watcher imports nothing of the hub, so that it costs next to no memory.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

# One that breaks sooner may do so again and again, and is started after ever longer pauses. Short
# ones: nothing comes in meanwhile, and an event that ends its process does so several times before
# it is set aside.
STEADY_SECONDS = 20.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 4.0
HUNG = 70  # the exit code of a process that noticed that it answers or hears nobody any more
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def keep_alive(work: Callable[[], None]) -> int:
    """Run `work` in a child until it ends by itself or we are told to; returns its exit code."""
    asked: list[int] = []
    children: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        # a terminal has told the child as well, and a second SIGINT would cut requests off
        _end(children)

    for number in _ENDING:
        signal.signal(number, pass_on)
    pause = 0.0
    while True:
        began = time.monotonic()
        children.append(_start(work))
        if asked:
            _end(children)  # told between two children, when nobody was there to pass it on to
        _, status = os.waitpid(children[-1], 0)
        code = os.waitstatus_to_exitcode(status)
        is_broken = code < 0 or code == HUNG
        if asked or not is_broken:
            return 0 if asked and code in (-signal.SIGTERM, -signal.SIGINT) else abs(code)
        if time.monotonic() - began >= STEADY_SECONDS:
            pause = 0.0
        sys.stderr.write(f"It broke ({code}); starting it again in {pause:.1f} s.\n")
        _rest(pause, asked)
        pause = longer(pause)
        if asked:
            return 0  # told to end while nothing was running


def longer(pause: float) -> float:
    """Return the seconds to wait after one that broke as soon as the one before."""
    return min(max(FIRST_PAUSE_SECONDS, 2 * pause), LONGEST_PAUSE_SECONDS)


def _rest(seconds: float, asked: list[int]) -> None:
    """Wait, unless we are told to end meanwhile."""
    until = time.monotonic() + seconds
    while not asked and time.monotonic() < until:
        time.sleep(min(0.05, seconds))


def _end(children: list[int]) -> None:
    with suppress(ProcessLookupError):  # it may have ended by itself a moment ago
        if children:
            os.kill(children[-1], signal.SIGTERM)


def _start(work: Callable[[], None]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _end_with(parent)
    code = 1
    try:
        work()
        code = 0
    except SystemExit as left:
        code = _code_of(left)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - said, and told by the exit code
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _code_of(left: SystemExit) -> int:
    if left.code is None:
        return 0
    if isinstance(left.code, int):
        return left.code
    sys.stderr.write(f"{left.code}\n")
    return 1


def _end_with(parent: int) -> None:
    """Let the system end this process when its watcher is gone: nobody else holds the port then."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it went away before we asked
        os._exit(0)
