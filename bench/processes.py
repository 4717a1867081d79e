"""What processes cost: CPU time and memory of whole process trees, read from /proc."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat behind the name, None for a process that is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _all() -> dict[int, list[str]]:
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found[int(entry.name)] = fields
    return found


def tree(roots: Iterable[int]) -> set[int]:
    """Return the living processes among `roots` and everything they have started."""
    return set(_tree(roots, _all()))


def _tree(roots: Iterable[int], running: dict[int, list[str]]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, fields in running.items():
        children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    waiting = [pid for pid in roots if pid in running]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.append(pid)
            waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the CPU time that the trees have used so far, ended children included.

    An ended child's time moves to the parent that waited for it, so the sum never jumps back.
    """
    running = _all()
    ticks = sum(sum(map(int, running[pid][11:15])) for pid in _tree(roots, running))
    return ticks / _TICKS


def busy_seconds() -> float:
    """Return the CPU time that the whole machine has spent on anything, or was kept from it."""
    user, nice, system, _idle, _wait, *rest = map(int, _machine_line()[1:9])
    return (user + nice + system + sum(rest)) / _TICKS


def _machine_line() -> list[str]:
    with (_PROC / "stat").open() as file:
        return file.readline().split()


def parent(pid: int) -> int:
    """Return the process that started this one."""
    fields = _stat(pid)
    if fields is None:
        raise ProcessLookupError(pid)
    return int(fields[1])


def named(name: str) -> list[int]:
    """Return all processes of a name, as the kernel knows it."""
    found = []
    for pid in _all():
        try:
            if (_PROC / str(pid) / "comm").read_text().strip() == name:
                found.append(pid)
        except OSError:
            continue
    return sorted(found)


def memory_mb(roots: Iterable[int]) -> float:
    """Return the memory of the trees, shared pages counted once (PSS)."""
    total_kb = 0
    for pid in tree(roots):
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def peak_resident_mb(roots: Iterable[int]) -> float:
    """Return the largest resident size that any single process of the trees has ever had."""
    peaks = [0]
    for pid in tree(roots):
        try:
            lines = (_PROC / str(pid) / "status").read_text().splitlines()
        except OSError:
            continue
        peaks += [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return max(peaks) / 1024


class Watch:
    """Looks at something every now and then on a thread of its own and remembers the most."""

    def __init__(self, look: Callable[[], float], every_seconds: float = 1.0) -> None:
        self.most = 0.0
        self._look, self._every = look, every_seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            self.most = max(self.most, self._look())
            self._end.wait(self._every)

    def stop(self) -> float:
        """Stop looking and return the most that was seen."""
        self._end.set()
        self._thread.join()
        self.most = max(self.most, self._look())
        return self.most
