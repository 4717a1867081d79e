"""The demo vendors: three small apps that run beside the hub and are opened like real ones."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernel import http
from kernel.http import Failure, Request
from kernel.settings import settings

HOST = "127.0.0.1"
KEYS = ("demo-shop", "demo-erp", "demo-chat")  # one port each, in this order
READY_SECONDS = 20
_PR_SET_PDEATHSIG = 1


class DemoVendorsError(RuntimeError):
    """Says why the demo vendors did not come up."""


def port_of(connector_key: str) -> int:
    """Return the port of a demo vendor."""
    return settings().demo_port + KEYS.index(connector_key)


def address_of(connector_key: str) -> str | None:
    """Return a demo vendor's address; None for other connectors, or when demo is off."""
    if not settings().demo or connector_key not in KEYS:
        return None
    return f"http://{HOST}:{port_of(connector_key)}"


def settings_of(connector_key: str) -> Mapping[str, Any]:
    """Return the connection settings the hub knows by itself: those of the demo vendors."""
    address = address_of(connector_key)
    return {"base_url": address} if address else {}


def start() -> "subprocess.Popen[bytes] | None":
    """Start the demo vendors as one child that dies with this process; None when they run already.

    Raises DemoVendorsError when a port is taken by something else.
    """
    if all(_is_vendor(port_of(key)) for key in KEYS):
        return None
    taken = [port for port in map(port_of, KEYS) if not _is_free(port)]
    if taken:
        raise DemoVendorsError(
            f"Port {taken[0]} is in use by something else. Stop it, or set YANGFAN_DEMO_PORT."
        )
    folder = Path(settings().data_dir) / "demo-vendors"
    folder.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    with (folder / "log.txt").open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own module, no shell
            [
                sys.executable,
                "-m",
                "connectors.lab.mock_vendor",
                "--base-port",
                str(settings().demo_port),
                "--state-dir",
                str(folder),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).resolve().parent.parent,
            # runs in the child between fork and exec; nothing there touches our threads
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509
        )


def stop(child: "subprocess.Popen[bytes]") -> None:
    """Stop the demo vendors."""
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _die_with(parent: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent went away before we asked
        os._exit(0)


def wait(child: "subprocess.Popen[bytes]") -> None:
    """Wait until all vendors answer; raises DemoVendorsError when the child ends before that."""
    log = Path(settings().data_dir) / "demo-vendors" / "log.txt"
    until = time.monotonic() + READY_SECONDS
    while not all(_answers(port_of(key)) for key in KEYS):
        if child.poll() is not None or time.monotonic() > until:
            stop(child)
            tail = log.read_text("utf-8", "replace")[-600:].strip()
            raise DemoVendorsError(f"The demo vendors did not start. Their last words:\n{tail}")
        time.sleep(0.05)


def _is_vendor(port: int) -> bool:
    found = _look(port)
    return not isinstance(found, Failure) and b'"mode"' in found.body


def _answers(port: int) -> bool:
    return not isinstance(_look(port), Failure)


def _is_free(port: int) -> bool:
    seen = _look(port)
    return isinstance(seen, Failure) and seen.kind == "connect"


def _look(port: int) -> http.Response | Failure:
    address = f"http://{HOST}:{port}/_mock/behaviour"
    return http.send(Request("GET", address, {}, b"", timeout_seconds=2))
