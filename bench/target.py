"""The target of the bench: one small process that answers 200 at once and notes what arrived.

Run as `python -m bench.target <ledger file>`; prints its port and serves until it is ended.
"""

import re
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from bench import processes
from bench.hub import ROOT
from bench.ledger import Ledger
from bench.orders import number_in

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
)
_CHUNK = 1 << 18
# What a hub's request must bring along to count: the key and the five mapped fields, the signature.
_PROOFS = (
    (b"POST /flow", (b"x-api-key: ", b"idempotency-key: "), b'"payment":'),
    (b"POST /endpoint", (b"webhook-signature: v1,",), b'"specversion":"1.0"'),
    (b"POST /naive", (), b""),
)


class Target:
    """The target process, seen from the bench."""

    def __init__(self, ledger: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.target", str(ledger)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used so far."""
        return processes.cpu_seconds([self.process.pid])

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def serve(listener: socket.socket, ledger: Ledger) -> None:
    """Answer requests on kept connections for ever, all in one thread."""
    poll = select.epoll()
    listener.setblocking(False)
    poll.register(listener, select.EPOLLIN)
    callers: dict[int, _Caller] = {}
    while True:
        for place, _ in poll.poll():
            caller = callers.get(place)
            if caller is None:
                with suppress(BlockingIOError):
                    made = _Caller(listener.accept()[0])
                    callers[made.place] = made
                    poll.register(made.place, select.EPOLLIN)
            elif not caller.take(ledger):
                del callers[place]
                caller.connection.close()


class _Caller:
    """One connection and what has come of its next request."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.place = connection.fileno()
        self.waiting = b""

    def take(self, ledger: Ledger) -> bool:
        """Read what is there, answer what is complete; False once the caller has gone."""
        try:
            chunk = self.connection.recv(_CHUNK)
            if not chunk:
                return False
            self.waiting += chunk
            answered = 0
            while (request := self._next()) is not None:
                _note(ledger, *request)
                answered += 1
            if answered:
                self.connection.sendall(_ANSWER * answered)
        except OSError:
            return False
        return True

    def _next(self) -> tuple[bytes, bytes] | None:
        """Cut the first whole request off and return its head and body."""
        head_end = self.waiting.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        found = _LENGTH.search(self.waiting, 0, head_end)
        end = head_end + 4 + (int(found[1]) if found else 0)
        if len(self.waiting) < end:
            return None
        head, body = self.waiting[:head_end], self.waiting[head_end + 4 : end]
        self.waiting = self.waiting[end:]
        return head, body


def is_whole(head: bytes, body: bytes) -> bool:
    """Tell whether a request has what its sender must do to an order, by where it was sent."""
    for start, headers, part in _PROOFS:
        if head.startswith(start):
            lower = head.lower()
            return part in body and all(header in lower for header in headers)
    return False


def _note(ledger: Ledger, head: bytes, body: bytes) -> None:
    number = number_in(body) if is_whole(head, body) else None
    if number is None:
        ledger.note_stranger()
    else:
        ledger.note_arrival(number, time.monotonic())


def main() -> None:
    """Listen, say where, serve."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    serve(listener, Ledger(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
