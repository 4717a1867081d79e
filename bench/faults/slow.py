"""Slow targets: they answer after seconds, let their answer trickle, or hang up; others must not
wait for them.
"""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from bench import orders
from bench.faults.stage import Stage
from bench.sink import QuietServer

WITHOUT_SECONDS, WITH_SECONDS = 8.0, 25.0
LATE_SECONDS = (3.0, 30.0)
WAYS = ("late", "trickle", "hangup")
# The healthy target's 99th percentile may grow by so much, on a machine that is busy besides.
MOST_TIMES, MOST_SECONDS = 4.0, 2.0


class SlowServer:
    """Answers each path in its own slow way."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.taken: dict[str, int] = dict.fromkeys(WAYS, 0)
        self._ended = threading.Event()
        self._server = QuietServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop serving; whoever still waits is hung up on."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        slow = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                way = self.path.strip("/")
                slow.taken[way] += 1
                with contextlib.suppress(OSError):
                    slow.answer(way, self.connection)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        return Handler

    def answer(self, way: str, to: socket.socket) -> None:
        """Answer late, byte by byte, or not at all."""
        text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        if way == "hangup":
            to.shutdown(socket.SHUT_RDWR)
            return
        if way == "late":
            self._ended.wait(random.uniform(*LATE_SECONDS))
            to.sendall(text)
            return
        for at in range(len(text)):
            to.sendall(text[at : at + 1])
            if self._ended.wait(0.3):
                return


def targets(stage: Stage) -> Callable[[], dict[str, Any]]:
    """Measure how long a healthy target waits, alone and beside three slow ones."""

    def fault() -> dict[str, Any]:
        alone = _wait_of_orders(stage, WITHOUT_SECONDS)
        server = SlowServer(stage.slow_port)
        made = []
        try:
            for way in WAYS:
                body = {"url": f"{server.url}/{way}", "event_types": [orders.TYPE]}
                made.append(stage.client.call("POST", "/api/v1/endpoints", body)["id"])
            beside = _wait_of_orders(stage, WITH_SECONDS)
        finally:
            for one in made:
                path = f"/api/v1/endpoints/{one}"
                stage.client.call("PATCH", path, {"event_types": ["order.cancelled"]})
                stage.client.call("POST", f"{path}/disable", {})
            server.stop()
        return {
            "p99_without_ms": round(alone * 1000),
            "p99_with_ms": round(beside * 1000),
            "slow_requests": server.taken,
        }

    return fault


def _wait_of_orders(stage: Stage, seconds: float) -> float:
    """Return the 99th percentile of the time from a 2xx to the healthy endpoint, in seconds."""
    first = stage.senders.take_numbers(1).start
    time.sleep(seconds)
    end = stage.senders.take_numbers(1).start
    time.sleep(3)
    waits = stage.ledger.waits(first, end)
    return waits[int(len(waits) * 0.99)] if waits else float("inf")


def is_held_up(more: dict[str, Any]) -> bool:
    """Tell whether a healthy target waited for the slow ones."""
    alone, beside = more["p99_without_ms"], more["p99_with_ms"]
    return bool(beside > max(alone * MOST_TIMES, alone + MOST_SECONDS * 1000))
