"""Servers of one's own: a private PostgreSQL and a private RabbitMQ, to be killed and brought back.

They live in a scratch folder on free ports of loopback; the machine's own are never touched.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import processes

QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

_INITIALLY = ("-U", "postgres", "-A", "trust", "-E", "UTF8")


class ServiceMissingError(RuntimeError):
    """Says which server cannot be had here, and why."""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Tell whether somebody listens on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; False when it did not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def postgres_binaries() -> Path | None:
    """Return the newest PostgreSQL's programs, None when none is installed."""
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class Postgres:
    """A private PostgreSQL with its usual care for the disk."""

    def __init__(self, folder: Path) -> None:
        found = postgres_binaries()
        if found is None:
            raise ServiceMissingError("PostgreSQL is not installed")
        self.binaries, self.folder, self.port = found, folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        # initdb and postgres refuse to run as root
        self._user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            if os.geteuid() == 0
            else []
        )
        folder.mkdir(exist_ok=True)
        if self._user:
            shutil.chown(folder, "postgres", "postgres")
        made = subprocess.run(
            [*self._user, found / "initdb", "-D", folder, *_INITIALLY],
            check=False,
            capture_output=True,
            cwd="/",
        )
        if made.returncode:
            raise ServiceMissingError(f"PostgreSQL: {made.stderr.decode()[-300:]}")

    @property
    def url(self) -> str:
        """The address as the server's first user."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers; after a crash it first reads its log again."""
        where = ["-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder]
        self.process = subprocess.Popen(
            [*self._user, self.binaries / "postgres", "-D", self.folder, *where],
            cwd="/",
            start_new_session=True,
            **QUIET,
        )
        if not wait_until(self._is_ready, 60):
            raise ServiceMissingError("PostgreSQL did not start")

    def _is_ready(self) -> bool:
        command = [self.binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False, **QUIET).returncode == 0

    def crash(self) -> None:
        """End it at once, without a checkpoint: what `pg_ctl stop -m immediate` does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def stop(self) -> None:
        """End it for good."""
        if self.process is not None and self.process.poll() is None:
            self.crash()


class RabbitMQ:
    """A private RabbitMQ node."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("rabbitmq-server"):
            raise ServiceMissingError("RabbitMQ is not installed")
        self.folder, self.port = folder, free_port()
        self.node = f"yangfan-{os.getpid()}-{self.port}@localhost"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        # of its own, so that the machine's, which may name a port, does not count
        settings = folder / "own.conf"
        settings.write_text(f"listeners.tcp.local = 127.0.0.1:{self.port}\n")
        self._environment = {
            **os.environ,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_CONFIG_FILE": str(settings),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "HOME": str(folder),
        }

    @property
    def url(self) -> str:
        """The address of its usual virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(
            ["rabbitmq-server"], env=self._environment, start_new_session=True, **QUIET
        )
        if not wait_until(lambda: is_listening(self.port), 90):
            raise ServiceMissingError("RabbitMQ did not start")

    def control(self, *command: str) -> bool:
        """Tell the node something; False when it did not listen."""
        program = ["rabbitmqctl", "-q", "-n", self.node, *command]
        done = subprocess.run(program, env=self._environment, check=False, timeout=60, **QUIET)
        return done.returncode == 0

    def crash(self) -> None:
        """Kill the node and all that it started, as a power cut would."""
        assert self.process is not None
        for pid in processes.tree([self.process.pid]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)
        wait_until(lambda: not is_listening(self.port), 30)

    def stop(self) -> None:
        """End it for good."""
        if self.process is not None and self.process.poll() is None:
            self.crash()
