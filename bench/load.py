"""The load: one small process that sends prepared requests over kept connections.

Run as `python -m bench.load`. It reads a Plan as one JSON line, makes and signs every request,
prints `ready`, waits for a line, sends, and prints what the answers were.
"""

import json
import random
import resource
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import orders
from bench.hub import ROOT
from bench.ledger import Ledger

STALL_SECONDS = 30
MOST_RECONNECTS = 200


@dataclass(frozen=True)
class Door:
    """Where events are sent, and the secret they are signed with (None: not signed)."""

    port: int
    path: str
    secret: str | None = None


@dataclass(frozen=True)
class Plan:
    """What to send: the events from number `first` on, to the doors in turn."""

    ledger: str
    doors: Sequence[Door]
    first: int
    events: int
    connections: int
    batch: int = 1  # events per request; more than one go as an array
    rate: float = 0  # events a second at random moments; 0: as fast as the answers come
    seed: int = 1

    @property
    def requests(self) -> int:
        """How many requests that makes."""
        return -(-self.events // self.batch)

    def numbers(self, request: int) -> range:
        """Return the numbers of the events in one request."""
        start = self.first + request * self.batch
        return range(start, min(start + self.batch, self.first + self.events))


@dataclass
class Outcome:
    """What the answers were, and what sending cost."""

    statuses: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    cpu_seconds: float = 0.0


class Load:
    """The load process, seen from the bench: made ready, let go, waited for."""

    def __init__(self, plan: Plan) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._tell(json.dumps(asdict(plan)))
        self._hear()

    def go(self) -> None:
        """Let it send."""
        self._tell("go")

    def outcome(self) -> Outcome:
        """Wait until all is sent and answered."""
        outcome = Outcome(**json.loads(self._hear()))
        self.process.wait()
        return outcome

    def stop(self) -> None:
        """End it in mid-sentence."""
        self.process.kill()
        self.process.wait()

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the load ended before its time")
        return line


# --- in the process ------------------------------------------------------------------------------


def prepare(plan: Plan) -> list[bytes]:
    """Write every request to the last byte, signatures included."""
    run, now = random.Random(plan.seed).getrandbits(32), int(time.time())
    prepared = []
    for request in range(plan.requests):
        numbers = plan.numbers(request)
        door = plan.doors[request % len(plan.doors)]
        body = orders.body(numbers, plan.seed, as_array=plan.batch > 1)
        headers = {"Host": f"127.0.0.1:{door.port}", "Content-Type": "application/json"}
        if door.secret:
            message_id = f"msg_{run:08x}_{numbers.start}"
            headers |= orders.signature_headers(door.secret, message_id, body, now)
        headers["Content-Length"] = str(len(body))
        lines = [f"POST {door.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        prepared.append("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return prepared


def moments(plan: Plan) -> list[float]:
    """Say when each request is due, in seconds from the start; independent senders come at random.

    Without a rate everything is due at once and waits for a free connection.
    """
    if not plan.rate:
        return [0.0] * plan.requests
    choose, due, at = random.Random(plan.seed), [], 0.0
    for _ in range(plan.requests):
        at += choose.expovariate(plan.rate / plan.batch)
        due.append(at)
    return due


class _Line:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.request = -1  # the one under way
        self.unsent = memoryview(b"")
        self.answer = b""
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=STALL_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def begin(self, request: int, raw: bytes) -> None:
        self.request, self.unsent, self.answer = request, memoryview(raw), b""
        self.push()

    def push(self) -> None:
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return

    def pull(self) -> int | None:
        """Read on; return the status once the answer is complete, raise when the line is dead."""
        chunk = self.socket.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError
        self.answer += chunk
        head_end = self.answer.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        head = self.answer[:head_end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self.answer) < head_end + 4 + length:
            return None
        return int(head[9:12])


class Sender:
    """Sends prepared requests when they are due and a line of their door's port is free."""

    def __init__(self, plan: Plan, prepared: list[bytes], ledger: Ledger) -> None:
        self.plan, self.prepared, self.ledger = plan, prepared, ledger
        self.poll = select.epoll()
        self.lines: dict[int, _Line] = {}
        self.free: list[_Line] = []
        self.statuses: Counter[int] = Counter()
        self.reconnects = 0
        ports = sorted({door.port for door in plan.doors})
        if len(ports) > 1:
            raise ValueError("the doors of one plan share a port")
        for _ in range(plan.connections):
            line = _Line(ports[0])
            self._watch(line)
            self.free.append(line)

    def run(self) -> None:
        """Send everything and wait for every answer."""
        due = moments(self.plan)
        start = time.monotonic()
        waiting = deque(enumerate(due))
        while waiting or len(self.free) < len(self.lines):
            now = time.monotonic()
            while waiting and self.free and waiting[0][1] <= now - start:
                request, at = waiting.popleft()
                # an open load counts from when the event was due, also if no line was free then
                self._begin(self.free.pop(), request, start + at if self.plan.rate else now)
            patience = STALL_SECONDS
            if waiting and self.free:
                patience = max(0.0, waiting[0][1] - (time.monotonic() - start))
            ready = self.poll.poll(patience)
            if not ready and not (waiting and self.free):
                raise RuntimeError("no answer for a long time")
            for place, mask in ready:
                self._move(self.lines[place], mask)

    def _watch(self, line: _Line) -> None:
        self.lines[line.socket.fileno()] = line
        self.poll.register(line.socket.fileno(), select.EPOLLIN)

    def _begin(self, line: _Line, request: int, at: float) -> None:
        for number in self.plan.numbers(request):
            self.ledger.sent[number] = at
        self._push(line, request)

    def _push(self, line: _Line, request: int) -> None:
        try:
            line.begin(request, self.prepared[request])
        except OSError:
            self._again(line)
            return
        if line.unsent:
            self.poll.modify(line.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _again(self, line: _Line) -> None:
        """Open the line anew and send the request under way once more, as senders do."""
        self.reconnects += 1
        if self.reconnects > MOST_RECONNECTS:
            raise RuntimeError("the server hangs up again and again")
        del self.lines[line.socket.fileno()]
        line.socket.close()
        line.open()
        self._watch(line)
        if line.request >= 0:
            self._push(line, line.request)

    def _move(self, line: _Line, mask: int) -> None:
        try:
            if mask & select.EPOLLOUT:
                line.push()
                if not line.unsent:
                    self.poll.modify(line.socket.fileno(), select.EPOLLIN)
            if not mask & ~select.EPOLLOUT:
                return
            status = line.pull()
        except OSError:
            self._again(line)
            return
        if status is not None:
            self._done(line, status)

    def _done(self, line: _Line, status: int) -> None:
        numbers = self.plan.numbers(line.request)
        self.statuses[status] += len(numbers)
        if 200 <= status < 300:
            now = time.monotonic()
            for number in numbers:
                self.ledger.answered[number] = now
        line.request = -1
        self.free.append(line)


def main() -> None:
    """Prepare, wait for the word, send, tell."""
    told = json.loads(sys.stdin.readline())
    plan = Plan(**{**told, "doors": [Door(**door) for door in told["doors"]]})
    prepared = prepare(plan)
    with Ledger(Path(plan.ledger)) as ledger:
        sender = Sender(plan, prepared, ledger)
        print("ready", flush=True)
        sys.stdin.readline()
        before = resource.getrusage(resource.RUSAGE_SELF)
        sender.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
    outcome = Outcome(
        statuses={str(status): count for status, count in sender.statuses.items()},
        reconnects=sender.reconnects,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )
    print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
