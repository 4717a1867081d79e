"""A receiver of webhooks that checks signatures with its own few lines and counts every arrival."""

import base64
import hashlib
import hmac
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Arrival:
    """What came under one webhook-id."""

    at: float
    digest: str
    count: int = 1
    changed: bool = False


@dataclass
class Ledger:
    """Everything that arrived."""

    arrivals: dict[str, Arrival] = field(default_factory=dict)
    forged: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, webhook_id: str, body: bytes) -> None:
        """Count an arrival; a repeated id with another body is remembered as changed."""
        digest = hashlib.sha256(body).hexdigest()
        with self.lock:
            known = self.arrivals.get(webhook_id)
            if known is None:
                self.arrivals[webhook_id] = Arrival(time.time(), digest)
            else:
                known.count += 1
                known.changed |= known.digest != digest

    @property
    def duplicates(self) -> int:
        """Arrivals beyond the first of each id."""
        with self.lock:
            return sum(a.count - 1 for a in self.arrivals.values())


class QuietServer(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Stay quiet about senders that are killed in mid-sentence."""


def is_genuine(secret: str | None, headers: dict[str, str], body: bytes) -> bool:
    """Check a Standard Webhooks signature as its specification words it."""
    if secret is None:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    given = headers["webhook-signature"].split()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and any(hmac.compare_digest(wanted, one) for one in given)


class Sink:
    """An HTTP server on a thread; set `secret` once the endpoint has been registered."""

    def __init__(self, port: int) -> None:
        self.ledger = Ledger()
        self.secret: str | None = None
        self.url = f"http://127.0.0.1:{port}/hook"
        self._server = QuietServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                if is_genuine(sink.secret, headers, body):
                    sink.ledger.note(headers["webhook-id"], body)
                    status = 204
                else:
                    sink.ledger.forged += 1
                    status = 401
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        return Handler
