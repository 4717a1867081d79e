"""The systems under test, each started, set up over its own doors and stopped by pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import psycopg
import requests

from bench import firms, processes, servers
from bench.firms import Firm
from bench.hub import ROOT, Hub, free_ports
from bench.load import Door
from bench.naive import QUEUE, store
from bench.servers import Database
from bench.target import Target

START_SECONDS = 60
R = TypeVar("R", bound="Rig")


class Rig:
    """One system under test: its doors, and the processes whose time counts as its own."""

    name = ""
    needs_servers = False

    def __init__(self) -> None:
        self.doors: dict[str, Door] = {}
        self.closing = ExitStack()

    def roots(self) -> list[int]:
        """Return the processes that were started for this system alone."""
        raise NotImplementedError

    @cached_property
    def shared(self) -> list[int]:
        """The servers that it shares with others; all they do counts as well."""
        return []

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far, servers included."""
        return processes.cpu_seconds([*self.roots(), *self.shared])

    def tail(self) -> str:
        """Return the end of its log."""
        return ""

    def stop(self) -> None:
        """End everything it started."""
        self.closing.close()


class Naive(Rig):
    """Flask under gunicorn, PostgreSQL, RabbitMQ, a Celery worker; see bench/naive."""

    name = "naive"
    needs_servers = True

    def __init__(self, target: Target) -> None:
        super().__init__()
        with ExitStack() as made:
            database = made.enter_context(servers.database(f"{QUEUE}_{os.getpid()}"))
            broker = made.enter_context(servers.queue(QUEUE))
            folder = Path(made.enter_context(TemporaryDirectory(prefix="yangfan-naive-")))
            with psycopg.connect(database.plain_url) as connection:
                connection.execute(store.CREATE)
            port = free_ports(1)
            environment = {
                **os.environ,
                "NAIVE_DATABASE_URL": database.plain_url,
                "NAIVE_BROKER_URL": broker,
                "NAIVE_TARGET_URL": f"{target.url}/naive",
            }
            web = ["gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", "-k", "gthread"]
            web += ["--threads", "8", "--keep-alive", "30", "--log-level", "warning"]
            web += ["--no-control-socket", "bench.naive.web:app"]
            muscle = ["celery", "-A", "bench.naive.worker", "worker", "-P", "prefork", "-c", "2"]
            muscle += ["--loglevel", "warning"]
            log = made.enter_context((folder / "naive.log").open("ab"))
            self._processes = [
                _start(made, [sys.executable, "-m", *command], environment, log)
                for command in (web, muscle)
            ]
            self.doors = {"single": Door(port, "/hook")}
            _wait_until(lambda: _answers(f"http://127.0.0.1:{port}/"), "the baseline")
            self.closing = made.pop_all()

    def roots(self) -> list[int]:
        return [process.pid for process in self._processes]

    @cached_property
    def shared(self) -> list[int]:
        return servers.postgres_pids() + servers.rabbitmq_pids()


class _HubRig(Rig):
    """A hub with one organization whose orders take a flow, and one that subscribes an endpoint."""

    def __init__(self, target: Target, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.target = target
        self.hub = Hub(
            {
                "YANGFAN_DEMO": "0",
                "YANGFAN_OUTBOUND_ALLOW": f"127.0.0.1:{target.port}",
                "YANGFAN_SWEEP_SECONDS": "5",
                "YANGFAN_BACKLOG_LIMIT": "100000000",  # the backlog is what is measured
                **environment,
            }
        )
        self.closing.callback(self._end)
        self.firms: dict[str, Firm] = {}  # by door
        self.senders: list[str] = []  # doors of further organizations whose orders take a flow

    def _end(self) -> None:
        """End the hub at once: what it has not drained goes with its database."""
        for process in list(self.hub.processes):
            self.hub.kill(process)
        self.hub.stop()

    def set_up(self) -> None:
        """Make both organizations over the public API."""
        self._add("flow", firms.add_flow)
        self._add("endpoint", firms.add_endpoint)

    def add_senders(self, count: int) -> None:
        """Sign further organizations up whose orders take a flow, until there are `count`."""
        while len(self.senders) < count:
            name = f"flow-{len(self.senders)}"
            self._add(name, firms.add_flow)
            self.senders.append(name)

    def _add(self, name: str, way: firms.Way) -> None:
        firm = firms.sign_up(self.hub.url, name, way, f"{self.target.url}/{name}")
        self.firms[name], self.doors[name] = firm, firm.door

    def roots(self) -> list[int]:
        return [process.pid for process in self.hub.processes]

    def tail(self) -> str:
        return self.hub.tail()


class Embedded(_HubRig):
    """The hub as `yangfan up` starts it: one process, SQLite."""

    name = "embedded"

    def __init__(self, target: Target) -> None:
        super().__init__(target, {})
        try:
            self.hub.start()
            self.set_up()
        except BaseException:
            self.stop()
            raise


class Scaled(_HubRig):
    """The hub on PostgreSQL and RabbitMQ: two web processes and one worker."""

    name = "scaled"
    needs_servers = True

    def __init__(
        self, target: Target, senders: int = 0, fill: Callable[[Database], None] | None = None
    ) -> None:
        name = f"yangfan_bench_{os.getpid()}_{free_ports(1)}"
        with ExitStack() as made:
            self.database = made.enter_context(servers.database(name))
            broker = made.enter_context(servers.virtual_host(name))
            super().__init__(
                target,
                {
                    "YANGFAN_DATABASE_URL": self.database.app_url,
                    "YANGFAN_OWNER_DATABASE_URL": self.database.owner_url,
                    "YANGFAN_BROKER_URL": broker,
                    "YANGFAN_WEB_PROCESSES": "2",
                },
            )
            made.push(self.closing.pop_all())
            migration = self.hub.run("migrate")
            if migration.wait(START_SECONDS):
                raise RuntimeError(f"the database was not migrated:\n{self.hub.tail()}")
            self.hub.processes.remove(migration)
            if fill:
                fill(self.database)
            web = self.hub.run("up")
            self.start_worker()
            self.hub.wait_ready(web)
            self.set_up()
            self.add_senders(senders)
            self.closing = made.pop_all()

    def start_worker(self) -> None:
        """Start the process that drains."""
        self._worker = self.hub.run("worker")

    def stop_worker(self) -> None:
        """End it at once; events are taken in all the same."""
        self.hub.kill(self._worker)

    @cached_property
    def shared(self) -> list[int]:
        return servers.postgres_pids() + servers.rabbitmq_pids()


RIGS = {rig.name: rig for rig in (Naive, Scaled, Embedded)}


def start_together(makers: Sequence[Callable[[], R]]) -> list[R]:
    """Start several systems at once; when one fails, none stays behind."""
    with ThreadPoolExecutor() as pool:
        starts = [pool.submit(make) for make in makers]
    failures = [error for start in starts if (error := start.exception())]
    if failures:
        for start in starts:
            if not start.exception():
                start.result().stop()
        raise failures[0]
    return [start.result() for start in starts]


# --- processes -----------------------------------------------------------------------------------


def _start(
    closing: ExitStack, command: list[str], environment: Mapping[str, str], log: Any
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    closing.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children at once; its database and queue go as well."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code < 500
    except requests.RequestException:
        return False


def _wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.1)
