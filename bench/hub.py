"""A hub of one's own: started on free ports, spoken to over HTTP, stopped or killed by pid."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parent.parent
STARTER = ("-c", "from marketplace.cli import run; run()")


def free_ports(count: int) -> int:
    """Return the first of `count` neighbouring free ports.

    Below those that systems give to outgoing connections, which come and go.
    """
    for _ in range(200):
        first = random.randrange(12_000, 32_000)
        if all(_is_free(first + n) for n in range(count)):
            return first
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Hub:
    """One hub with its own data folder; `environment` overrides the embedded defaults."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="yangfan-hub-"))
        self.port = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.vendor_port = free_ports(3)
        self.sink_port = free_ports(1)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("YANGFAN_")},
            "YANGFAN_BASE_URL": self.url,
            "YANGFAN_BIND": f"127.0.0.1:{self.port}",
            "YANGFAN_DATA_DIR": str(self.folder),
            "YANGFAN_DATABASE_URL": f"sqlite:///{self.folder}/hub.db",
            "YANGFAN_DEMO": "1",
            "YANGFAN_DEMO_PORT": str(self.vendor_port),
            "YANGFAN_OUTBOUND_ALLOW": f"127.0.0.1:{self.sink_port}",
            "YANGFAN_LOG_LEVEL": "warning",
            "YANGFAN_SWEEP_SECONDS": "1",
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = (self.folder / "hub.log").open("ab")

    def run(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        starter: Sequence[str] = STARTER,
    ) -> subprocess.Popen[bytes]:
        """Start `yangfan …` in a session of its own, so that a kill takes its children along."""
        return self._start(*starter, *command, environment=environment)

    def run_vendors(self) -> subprocess.Popen[bytes]:
        """Start the demo vendors on their own, so that the hub's end is not theirs."""
        state = str(self.folder / "vendors")
        port = str(self.vendor_port)
        return self._start(
            "-m", "connectors.lab.mock_vendor", "--base-port", port, "--state-dir", state
        )

    def _start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**self.environment, **(environment or {})},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    @property
    def database_url(self) -> str:
        """Where this hub keeps its data."""
        return self.environment["YANGFAN_DATABASE_URL"]

    def start(self, *, timeout_seconds: float = 60) -> float:
        """Start the hub, wait until it answers, return the seconds that took."""
        started = time.monotonic()
        process = self.run("up")
        self.wait_ready(process, timeout_seconds)
        return time.monotonic() - started

    def wait_ready(self, process: subprocess.Popen[bytes], timeout_seconds: float = 60) -> None:
        """Wait for /readyz, or show the log of a hub that died."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if requests.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the hub did not start:\n{self.tail()}")

    def vendor(self, key: str) -> "Client":
        """Return a client for a demo vendor: demo-shop, demo-erp or demo-chat."""
        number = ("demo-shop", "demo-erp", "demo-chat").index(key)
        return Client(f"http://127.0.0.1:{self.vendor_port + number}")

    def tail(self) -> str:
        """Return the end of the hub's log."""
        self.log.flush()
        return (self.folder / "hub.log").read_text(errors="replace")[-4000:]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a process and its children at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def stop(self, *, keep: bool = False) -> None:
        """Stop everything this hub started; its folder goes too unless it is to be looked at."""
        for process in list(self.processes):
            process.terminate()
        for process in list(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            self.kill(process)
        self.log.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class Client:
    """The hub's JSON API for one organization."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()

    def call(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """Call the API and return its JSON; any refusal is an error that shows the problem."""
        answer = self.http.request(method, f"{self.url}{path}", json=body, timeout=60)
        if answer.status_code >= 400 or (expect and answer.status_code != expect):
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:1000]}")
        return answer.json() if answer.content else None

    def sign_up(self, organization: str = "示例工厂") -> dict[str, Any]:
        """Sign an organization up and go on with its first API key."""
        made: dict[str, Any] = self.call(
            "POST",
            "/api/v1/sign-up",
            {
                "organization_name": organization,
                "name": "王芳",
                "email": f"wang.{time.time_ns()}@factory.example",
                "password": "hebei-lantern-48-orchard",
            },
        )
        self.http.headers["Authorization"] = f"Bearer {made['api_key']}"
        return made

    def install(self, bundle: str, *, timeout_seconds: float = 60) -> tuple[dict[str, Any], float]:
        """Install a bundle, follow it to its end, return the rollout and the seconds it took."""
        started = time.monotonic()
        rollout = self.call("POST", f"/api/v1/bundles/{bundle}/install", {})
        while rollout["state"] not in ("active", "absent"):
            if time.monotonic() - started > timeout_seconds:
                raise RuntimeError(f"the installation did not end: {rollout}")
            time.sleep(0.05)
            rollout = self.call("GET", f"/api/v1/rollouts/{rollout['id']}")
        return rollout, time.monotonic() - started
