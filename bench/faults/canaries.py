"""Canaries: listeners that nobody may call, a public server that everybody may, a name server."""

import contextlib
import socket
import struct
import threading
from typing import Self

PUBLIC = "93.184.216.34"
PORTS = (22, 80, 443, 2375, 5432, 5672, 6379, 8000, 8080, 8443, 9200)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class _Threads:
    """Sockets with a thread each, closed together."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    def _keep(self, made: socket.socket, work) -> None:
        self._sockets.append(made)
        threading.Thread(target=work, args=(made,), daemon=True).start()


class Canaries(_Threads):
    """Counts who comes: `connections` to any address at all, `visits` to the public server."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = self.visits = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Listen on every address of both kinds, and on the public one apart from them."""
        for port in PORTS:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                self._keep(_listen(family, host, port), self._sing)
        for port in (80, 8080):
            self._keep(_listen(socket.AF_INET, PUBLIC, port), self._serve)

    def _sing(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                with self._lock:
                    self.connections += 1
                threading.Thread(target=_answer, args=(caller,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                with self._lock:
                    self.visits += 1
                threading.Thread(target=_answer, args=(caller,), daemon=True).start()


def _listen(family: int, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    # the public address has a listener of its own beside the one for all
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((host, port))
    made.listen(64)
    return made


def _answer(caller: socket.socket) -> None:
    """Answer 200, or at /to/<status>?<address> that the caller should go on there."""
    with contextlib.suppress(OSError), caller:
        caller.settimeout(5)
        line = caller.recv(65536).split(b"\r\n", 1)[0]
        path = line.split(b" ")[1] if line.count(b" ") == 2 else b"/"
        if path.startswith(b"/to/"):
            status, _, where = path.removeprefix(b"/to/").partition(b"?")
            moved = b"HTTP/1.1 %s Moved\r\nLocation: %s\r\nContent-Length: 0\r\n" % (status, where)
            caller.sendall(moved + b"Connection: close\r\n\r\n")
        else:
            caller.sendall(_OK)


class Names(_Threads):
    """A name server that answers what it is told to; every name it does not know leads inside."""

    def __init__(self) -> None:
        super().__init__()
        self.places = {
            "public.example": PUBLIC,
            "meta.example": "169.254.169.254",
            "ten.example": "10.9.9.9",
            "mixed.example": f"{PUBLIC} 127.0.0.1",
            "six.example": "::1",
        }

    def start(self) -> None:
        """Answer on the usual port."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 53))
        self._keep(made, self._serve)

    def _serve(self, place: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, caller = place.recvfrom(2048)
                with contextlib.suppress(ValueError, IndexError, struct.error):
                    place.sendto(self.answer(question), caller)

    def answer(self, question: bytes) -> bytes:
        """Answer one question about A or AAAA, with a time to live of nothing."""
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode("latin-1").lower())
            at += 1 + question[at]
        kind = struct.unpack("!H", question[at + 1 : at + 3])[0]
        places = self.places.get(".".join(labels), "127.0.0.1").split()
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        found = [
            socket.inet_pton(family, one)
            for one in places
            if family and (":" in one) is (family == socket.AF_INET6)
        ]
        head = question[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, len(found), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(one)) + one for one in found
        )
        return head + question[12 : at + 5] + records
