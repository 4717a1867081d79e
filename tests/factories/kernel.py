"""Targets on the loopback that count who came, for tests of outbound calls."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Play = Callable[[socket.socket, bytes], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Target:
    """A listening socket: its port, what was asked of it, how many connections it saw."""

    def __init__(self, host: str, play: Play | None, tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.bind((host, 0))
        self.socket.listen(64)
        self.host, self.port = host, self.socket.getsockname()[1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.connections, self.requests, self.play = 0, list[bytes](), play
        self.tls, self.closing = tls, threading.Event()

    def url(self, path: str = "/") -> str:
        return f"http://{self.authority}{path}"

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            if self.closing.is_set():
                connection.close()
                return
            self.connections += 1
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while request := read_request(connection):
                self.requests.append(request)
                if self.play:
                    self.play(connection, request)
                else:
                    connection.sendall(OK)


def read_request(connection: socket.socket) -> bytes:
    """Read one request with its body; empty at the end of the connection."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        more = connection.recv(65536)
        if not more:
            return b""
        raw += more
    head, _, body = raw.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def target(
    play: Play | None = None, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Target]:
    """Listen while the test runs; without a play every request gets a small 200."""
    made = Target(host, play, tls)
    thread = threading.Thread(target=made.accept, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.closing.set()
        with suppress(OSError):
            socket.create_connection((host, made.port), timeout=1).close()
        made.socket.close()


def plays(raw: bytes) -> Play:
    """Answer every request with the same bytes and close."""

    def play(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(raw)
        connection.close()

    return play
