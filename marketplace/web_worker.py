"""gunicorn's threads, so that no slow, lost or lingering client holds them or the loop before them.

As gunicorn has it, a thread waits without an end for a client to speak and to listen, and the loop
that accepts connections waits two seconds for each client to hang up. Here the loop gathers a
request until it is whole, sends what a client is slow to read, and sees it off, all at once.
"""

import errno
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

COMING_SECONDS = 20.0  # until a request is whole
SENDING_SECONDS = 60.0  # until a client has read the rest of an answer
PARTING_SECONDS = 2.0  # until it hangs up then
GATHERED_BYTES = 2 * 1024 * 1024 + 64 * 1024  # a longer request is refused by its head
ROOM_BYTES = 64 * 1024 * 1024  # for what is gathered of all requests
UNSENT_BYTES = 4 * 1024 * 1024  # of one answer
# Beyond these bounds a thread waits for a client, for so long and in half of the threads at most.
PATIENCE_SECONDS = 20.0
_PIECE, _SHUT_WR = 64 * 1024, 1
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_ASKS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)


class Client:
    """A client's socket: never blocks; in a thread it waits by itself while its patience lasts."""

    def __init__(self, taken: Any, turns: threading.Semaphore) -> None:
        taken.setblocking(False)
        self.is_given_up = False
        self.gathered = bytearray()
        self._has_asked = False
        self._unsent: deque[memoryview] = deque()
        self._spent = 0.0
        self._taken = taken
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._taken, name)

    def setblocking(self, _flag: bool) -> None:  # noqa: FBT001  # as sockets have it
        """Do nothing: this socket has its own way of waiting."""

    def settimeout(self, _seconds: float | None) -> None:
        """Do nothing: this socket has its own way of waiting."""

    def recv(self, size: int) -> Any:
        """Read what is there or comes in time; a client that is given up has hung up."""
        while not self.is_given_up:
            try:
                return self._taken.recv(size)
            except BlockingIOError:
                self.is_given_up = not self._wait(select.POLLIN)
        return b""

    def send(self, data: bytes) -> int:
        """Send a short word; the loop has told the client to go on where that was asked."""
        if data == _GO_ON and self._has_asked:
            return len(data)
        return self._send(data)

    def sendall(self, data: bytes) -> None:
        """Send what can be sent now and keep the rest for the loop, unless it is too much."""
        self._unsent.append(memoryview(data))
        self._push()
        while sum(map(len, self._unsent)) > UNSENT_BYTES:
            if not self._wait(select.POLLOUT):
                self.is_given_up = True
                raise ConnectionResetError(errno.ECONNRESET, "the client reads too slowly")
            self._push()

    def _push(self) -> None:
        while self._unsent:
            first = self._unsent[0]
            sent = self._send(first)
            if sent < len(first):
                self._unsent[0] = first[sent:]
                return
            self._unsent.popleft()

    def _send(self, data: Any) -> int:
        try:
            sent: int = self._taken.send(data)
        except BlockingIOError:
            return 0
        return sent

    def _wait(self, until: int) -> bool:
        left = PATIENCE_SECONDS - self._spent
        if left <= 0 or not self._turns.acquire(blocking=False):
            return False
        started = time.monotonic()
        try:
            poll = select.poll()
            poll.register(self._taken, until)
            return bool(poll.poll(left * 1000))
        finally:
            self._spent += time.monotonic() - started
            self._turns.release()

    def gather(self) -> bool:
        """Read without waiting; tell whether a thread may take the request now."""
        self._has_asked = self._has_asked and bool(self.gathered)
        try:
            more = self._taken.recv(_PIECE)
        except BlockingIOError:
            return False
        except OSError:  # whoever reads next hears that the client is gone
            more = b""
        self.gathered += more
        if not more or _is_ready(self.gathered):
            return True
        end = self.gathered.find(b"\r\n\r\n")
        if not self._has_asked and _ASKS.search(self.gathered, 0, end + 2):
            self._has_asked = True
            with suppress(OSError):
                self._send(_GO_ON)
        return False

    def begin(self) -> bytes:
        """Give what was gathered to a thread, and the client new patience."""
        self._spent = 0.0
        self._has_asked = self._has_asked and bool(self.gathered)
        gathered, self.gathered = bytes(self.gathered), bytearray()
        return gathered

    def flush(self) -> bool:
        """Send without waiting; tell whether nothing more can be sent."""
        try:
            self._push()
        except OSError:
            self.is_given_up = True
        return self.is_given_up or not self._unsent

    def is_gone(self) -> bool:
        """Throw away what the client still says; tell whether it has hung up."""
        try:
            return not self._taken.recv(_PIECE)
        except BlockingIOError:
            return False
        except OSError:
            return True


def _is_ready(seen: bytearray) -> bool:
    """Tell whether this is a whole request, or one that is not to be gathered.

    A guess is enough, as gunicorn reads it again by the rules.
    """
    end = seen.find(b"\r\n\r\n")
    if end < 0:
        return len(seen) >= 2 * _PIECE
    if _CHUNKED.search(seen, 0, end):
        ends = seen.endswith(b"\r\n\r\n", end + 4) or seen.find(b"\r\n0\r\n", end + 2) > 0
        return ends or len(seen) >= GATHERED_BYTES
    length = _LENGTH.search(seen, 0, end + 2)
    whole = end + 4 + int(length[1]) if length else 0
    return len(seen) >= whole or whole > GATHERED_BYTES


class PatientWorker(ThreadWorker):
    """Hands a connection to a thread when its request has come; the loop does all the waiting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turns = threading.Semaphore(max(1, self.cfg.threads // 2))
        self.room = ROOM_BYTES
        # those that wait in the loop, the next to be given up first
        self.waiting: dict[float, dict[TConn, None]] = {}

    def accept(self, listener: Any) -> None:
        """Take a new connection; the loop keeps it until its request has come."""
        try:
            taken, address = listener.accept()
        except OSError:  # nobody there any more, or no handle left: look again in the next round
            return
        self.nr_conns += 1
        client = Client(taken, self.turns)
        conn = TConn(self.cfg, client, address, listener.getsockname())
        self._keep(conn, COMING_SECONDS, EVENT_READ, self._gather)

    def _keep(
        self, conn: TConn, seconds: float, event: int, then: Callable[[TConn, Client], None]
    ) -> None:
        """Keep a connection in the loop: call `then` at each event, hang up after some time."""
        conn.timeout = time.monotonic() + seconds
        self.waiting.setdefault(seconds, {})[conn] = None
        self.poller.register(conn.sock, event, partial(then, conn))

    def _let_go(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        for line in self.waiting.values():
            line.pop(conn, None)

    def murder_pending(self) -> None:
        """Hang up on those that have waited too long."""
        now = time.monotonic()
        for line in self.waiting.values():
            while (conn := next(iter(line), None)) and conn.timeout <= now:
                self._hang_up(conn)

    def _hang_up(self, conn: TConn) -> None:
        self._let_go(conn)
        self.room += len(conn.sock.gathered)
        self.nr_conns -= 1
        conn.close()

    def _gather(self, conn: TConn, client: Client) -> None:
        before = len(client.gathered)
        is_ready = client.gather()
        self.room -= len(client.gathered) - before
        if is_ready or self.room < 0:
            self._let_go(conn)
            self.room += len(client.gathered)
            self.enqueue_req(conn)

    def on_client_socket_readable(self, conn: TConn, client: Client) -> None:
        """Gather the next request on a connection that was kept."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._keep(conn, COMING_SECONDS, EVENT_READ, self._gather)
        self._gather(conn, client)

    def handle(self, conn: TConn) -> Any:
        """Serve one request in a thread."""
        conn.init()
        conn.parser.unreader.unread(conn.sock.begin())
        return super().handle(conn)

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Send the rest of the answer; then keep the connection, or take leave."""
        if conn.sock.flush():
            self._finish(conn, fs)
        else:
            self._keep(conn, SENDING_SECONDS, EVENT_WRITE, partial(self._send_on, fs))

    def _send_on(self, fs: "Future[Any]", conn: TConn, client: Client) -> None:
        if client.flush():
            self._let_go(conn)
            self._finish(conn, fs)

    def _finish(self, conn: TConn, fs: "Future[Any]") -> None:
        is_kept = not fs.cancelled() and fs.exception() is None and fs.result()
        if is_kept and not conn.sock.is_given_up:
            super().finish_request(conn, fs)
            return
        # cut off at once, a client that is still sending would not read its answer
        with suppress(OSError):
            conn.sock.shutdown(_SHUT_WR)
        self._keep(conn, PARTING_SECONDS, EVENT_READ, self._see_off)

    def _see_off(self, conn: TConn, client: Client) -> None:
        if client.is_gone():
            self._hang_up(conn)
