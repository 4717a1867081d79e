"""A room: one real app in a folder of its own, installed once, begun anew for every run.

What an app needs before it can be used (its database, an account for the hub, something to sell) is
made once in `base`; each run works on a copy of it, so that every run starts from the same state.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import requests

from bench.hub import free_ports

SETUPS = Path(__file__).parent / "setups"
TAIL = 1_500


class NotInstalledError(Exception):
    """An app that could not be installed here, and why."""


class Deadline:
    """How long everything together may still take."""

    def __init__(self, seconds: float) -> None:
        """Start counting."""
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 when there are none."""
        return max(0.0, self.end - time.monotonic())


class Room:
    """One app; what is particular to it stands in the modules beside this one."""

    key: ClassVar[str]
    wants: ClassVar[str]  # what of it is asked for, in words a package installer understands
    ready_seconds: ClassVar[float] = 120

    def __init__(self, folder: Path, deadline: Deadline) -> None:
        """Take a folder; nothing is done yet."""
        self.folder = (folder / self.key).resolve()
        self.deadline = deadline
        self.port = free_ports(1)
        self.facts: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None

    # what an app says of itself

    def install(self) -> None:
        """Bring the app's files here; quick when they are here; raises NotInstalledError."""
        raise NotImplementedError

    def make_base(self) -> dict[str, Any]:
        """Make the app's first state in `base` and return what the hub has to know of it."""
        raise NotImplementedError

    def version(self) -> str:
        """Return which version is installed."""
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        """Return what starts the app."""
        raise NotImplementedError

    def environment(self, state: Path) -> dict[str, str]:
        """Return the variables the app runs with on a state folder."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Tell whether the app answers a request that proves who asks."""
        raise NotImplementedError

    def connection(self) -> dict[str, Any]:
        """Return what the hub's connection to the app is made of."""
        raise NotImplementedError

    # the same for all

    @property
    def url(self) -> str:
        """Where the app answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base(self) -> Path:
        """Where the first state is."""
        return self.folder / "base"

    @property
    def state(self) -> Path:
        """Where this run's state is."""
        return self.folder / "run"

    @property
    def cwd(self) -> Path:
        """Where the app's commands run."""
        return self.folder

    def prepare(self) -> None:
        """Install the app and begin a run's state; raises NotInstalledError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.install()
        known = self.base / "facts.json"
        stated = {"wants": self.wants, "version": self.version()}
        facts = json.loads(known.read_text()) if known.exists() else {}
        if facts.get("of") != stated:
            shutil.rmtree(self.base, ignore_errors=True)
            self.base.mkdir()
            facts = {**self.make_base(), "of": stated}
            known.write_text(json.dumps(facts))
        self.facts = facts
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(self.base, self.state)

    def start(self) -> None:
        """Start the app and wait until it answers; raises RuntimeError with its log."""
        log = (self.folder / "app.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                list(self.command()),
                cwd=self.cwd,
                env=self._environment(self.state),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + min(self.ready_seconds, self.deadline.left())
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                if self.is_ready():
                    return
            time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"{self.key} did not start:\n{self.tail()}")

    def kill(self) -> None:
        """End the app at once, as a power cut would."""
        process, self.process = self.process, None
        if process is not None:
            _end_session(process)

    def stop(self) -> None:
        """End the app and what it started; nothing happens when it is not running."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        _end_session(process)

    def tool(
        self,
        *command: str | Path,
        seconds: float = 300,
        text: str | None = None,
        more: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> str:
        """Run one of the app's commands on `base` and return what it says.

        Raises NotInstalledError when it fails, takes more than `seconds` or the run is over.
        """
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd or self.cwd,
            env={**self._environment(self.base), **(more or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        name = " ".join(str(part) for part in command[:4])
        try:
            said, _ = process.communicate(text, timeout=min(seconds, self.deadline.left()))
        except subprocess.TimeoutExpired:
            raise NotInstalledError(f"`{name} …` took too long") from None
        finally:
            _end_session(process)
        with (self.folder / "tools.log").open("a") as log:
            log.write(f"$ {name}\n{said}\n")
        if process.returncode:
            last = said.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise NotInstalledError(f"`{name} …`: {last[0][:300]}")
        return said

    def tail(self) -> str:
        """Return the end of the app's log."""
        log = self.folder / "app.log"
        return log.read_text(errors="replace")[-TAIL:] if log.exists() else ""

    def _environment(self, state: Path) -> dict[str, str]:
        mine = ("YANGFAN_", "PRETIX_", "TRYTON", "REDMINE_", "RAILS_", "DJANGO_", "PYTHONPATH")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(mine)}
        return {**kept, "PYTHONUNBUFFERED": "1", **self.environment(state)}


class PythonRoom(Room):
    """An app from a Python package registry, in a virtual environment of its own."""

    package: ClassVar[str]

    @property
    def python(self) -> Path:
        """The app's interpreter."""
        return self.folder / "venv" / "bin" / "python"

    def install(self) -> None:
        """Make the environment and install into it."""
        done = self.folder / "venv" / "installed"
        if done.exists() and done.read_text() == self.wants:
            return
        if not self.python.exists():
            self.tool(sys.executable, "-m", "venv", self.folder / "venv", seconds=120)
        pip = (self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self.tool(*pip, *self.wants.split(), seconds=600)
        done.write_text(self.wants)

    def version(self) -> str:
        """Return the version of the package."""
        code = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        return self.tool(self.python, "-c", code, seconds=60).strip().splitlines()[-1]


def _end_session(process: subprocess.Popen[Any]) -> None:
    """End what is left of a process's own session, and take leave of the process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
